// Chromium without a window, for tests of pages; tests that need it skip where it is not installed.
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, launch, type Page } from 'puppeteer-core';

const names = ['chromium', 'chromium-browser', 'google-chrome'];
const folders = (process.env['PATH'] ?? '').split(delimiter);

/** Undefined where there is none on PATH. */
export const browserPath = folders.flatMap((folder) => names.map((name) => join(folder, name))).find((path) => existsSync(path));

export function openBrowser(): Promise<Browser> {
  // Its sandbox needs rights that containers do not give; the pages are our own.
  return launch({ executablePath: browserPath as string, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
}

/** A page of a file, and what went wrong in it: errors, messages of the console, and everything that it asked for but itself. */
export async function openPage(browser: Browser, path: string, width = 1200): Promise<{ page: Page; problems: string[] }> {
  const page = await browser.newPage();
  const problems: string[] = [];
  page.on('console', (message) => problems.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => problems.push(`error: ${String(error)}`));
  page.on('request', (request) => {
    if (request.url() !== `file://${path}` && request.url() !== 'data:,') problems.push(`request: ${request.url()}`);
  });
  await page.setViewport({ width, height: 900 });
  await page.goto(`file://${path}`);
  return { page, problems };
}
