// The report in a browser: what people see of it and can do with it.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'puppeteer-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { renderReport } from '../../src/report/page.js';
import { browserPath, openBrowser, openPage } from './browser.js';
import { hostile, hostileRun, run } from './rows.js';

const tiny = '.model[data-model="tiny"]';
const command = "lowbit bench --model tiny --recipe 'rtn:bits=2|4'";

describe.skipIf(browserPath === undefined)('the report in Chromium (skipped where chromium is not on PATH)', () => {
  let folder: string;
  let path: string;
  let browser: Browser;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'lowbit-report-'));
    path = join(folder, 'report.html');
    const commandFor = (model: string, recipe: string): string => `lowbit bench --model ${model} --recipe '${recipe}'`;
    writeFileSync(path, await renderReport(run, { title: `Run ${hostile}`, command, commandFor }));
    writeFileSync(join(folder, 'hostile.html'), await renderReport(hostileRun, { title: 'hostile' }));
    browser = await openBrowser();
  }, 120_000);
  afterAll(async () => {
    await browser.close();
    rmSync(folder, { recursive: true });
  });

  async function withPage(use: (page: Page) => Promise<void>, width?: number): Promise<void> {
    const { page, problems } = await openPage(browser, path, width);
    await use(page);
    expect(problems).toEqual([]);
    await page.close();
  }

  /** Of the first element that a selector finds. */
  const see = <T>(page: Page, selector: string, what: string): Promise<T> =>
    page.evaluate(`document.querySelector(${JSON.stringify(selector)}).${what}`) as Promise<T>;
  const text = (page: Page, selector: string): Promise<string> => see(page, selector, 'innerText');
  const isShown = (page: Page, selector: string): Promise<boolean> => see(page, selector, 'checkVisibility()');
  /** Inputs lie under their labels. */
  const choose = (page: Page, selector: string): Promise<void> => see(page, selector, 'click()');
  /** Names of the recipes that the table of a model shows, from top to bottom. */
  const recipes = (page: Page): Promise<string[]> =>
    page.evaluate(
      `[...document.querySelectorAll('${tiny} table.results > tbody:not([hidden]) > tr:first-child th')].map((head) => head.textContent.trim())`,
    ) as Promise<string[]>;

  it('opens without errors, loads nothing, and shows names as they are', async () => {
    await withPage(async (page) => {
      expect(await page.title()).toBe(`Run ${hostile}`);
      expect(await text(page, 'h1')).toBe(`Run ${hostile}`);
      const inOrder = ['dense', 'gptq-2', 'rtn-2', hostile, 'gptq-w4a4', 'gptq-4', 'rtn-4'];
      expect(await recipes(page)).toEqual(inOrder);
      expect(await page.$('img')).toBeNull();
      expect(await text(page, '.lead')).toBe('6 recipes on tiny, stories15M · 2 seeds · 2 with errors');
      expect(await text(page, '.model .winners')).toMatch(/2\s+gptq-2\s+0\.705\d*\s+0\.8 ahead of rtn-2/);
      expect(await text(page, 'main > section .command pre')).toBe(command);
    });
  });

  it('runs and loads nothing that a name asks for, in charts and maps either', async () => {
    const { page, problems } = await openPage(browser, join(folder, 'hostile.html'));
    expect(await page.title()).toBe('hostile');
    expect(await page.$$('img, main script')).toEqual([]);
    const names = (await page.evaluate(
      `[...document.querySelectorAll('svg[aria-label], svg [aria-label]')].map((mark) => mark.getAttribute('aria-label'))`,
    )) as string[];
    // Of the plot and the curve: the drawing and a point.
    for (const name of [
      `${hostile} against bits per weight, ${hostile}`,
      `${hostile}2\n2.50 bits`,
      `Losses of ${hostile}2`,
      `${hostile} loss, `,
    ])
      expect(names.some((one) => one.startsWith(name))).toBe(true);
    expect(await page.$$('.heat tbody tr')).toHaveLength(2);
    expect(problems).toEqual([]);
    await page.close();
  });

  it('sorts by a column both ways and back, failures last, by the keyboard as well', async () => {
    await withPage(async (page) => {
      const asGiven = await recipes(page);
      const button = '.model table.results th:nth-child(3) button';
      await page.click(button);
      expect(await recipes(page)).toEqual(['gptq-2', 'rtn-2', 'gptq-w4a4', 'gptq-4', 'rtn-4', 'dense', hostile]);
      expect(await see(page, `${tiny} table.results th:nth-child(3)`, 'ariaSort')).toBe('ascending');
      await page.focus(button);
      await page.keyboard.press('Enter');
      expect((await recipes(page))[0]).toBe('dense');
      expect((await recipes(page)).at(-1)).toBe(hostile);
      await page.keyboard.press('Space');
      expect(await recipes(page)).toEqual(asGiven);
    });
  });

  it('filters everything by method, width and name', async () => {
    await withPage(async (page) => {
      await choose(page, '[name="method"][value="rtn"]');
      expect(await recipes(page)).toEqual(['rtn-2', 'rtn-4']);
      expect(await text(page, '.model .count')).toBe('2 of 7 recipes');
      expect(await isShown(page, '.heat tr[data-subject]:has(a)')).toBe(false);
      await choose(page, '[name="width"][value="4"]');
      expect(await recipes(page)).toEqual(['rtn-4']);
      const marks = `${tiny} figure:not([hidden]) .wide svg a`;
      for (const id of ['r1', 'r2', 'r4', 'r5']) expect(await see(page, `${marks}[href="#${id}"]`, 'className.baseVal')).toBe('off');
      expect(await see(page, `${marks}[href="#r3"]`, 'className.baseVal')).toBe('');
      await page.click('button[type="reset"]');
      await page.waitForFunction(`document.querySelector('.count').textContent === '7 recipes'`);
      await page.type('input[type="search"]', 'Q-2');
      expect(await recipes(page)).toEqual(['gptq-2']);
    });
  });

  it('shows one model at a time, and another plot', async () => {
    await withPage(async (page) => {
      expect(await isShown(page, '.model[data-model="stories15M"]')).toBe(false);
      await choose(page, '[name="model"][value="stories15M"]');
      expect(await isShown(page, '.model[data-model="tiny"]')).toBe(false);
      const plot = (metric: string): string => `.model[data-model="stories15M"] figure[data-metric="${metric}"]`;
      expect(await isShown(page, plot('loss-gap'))).toBe(true);
      await choose(page, '.model[data-model="stories15M"] input[value="perplexity"]');
      expect(await isShown(page, plot('loss-gap'))).toBe(false);
      expect(await isShown(page, plot('perplexity'))).toBe(true);
    });
  });

  it('shows everything without scripts', async () => {
    const page = await browser.newPage();
    await page.setJavaScriptEnabled(false);
    await page.goto(`file://${path}`);
    for (const metric of ['loss-gap', 'perplexity']) expect(await isShown(page, `${tiny} figure[data-metric="${metric}"]`)).toBe(true);
    for (const row of ['#r1-more', '#r2-more']) expect(await isShown(page, row)).toBe(true);
    await page.close();
  });

  it('opens a line to how its numbers came about, also from a point', async () => {
    await withPage(async (page) => {
      await page.click('#r1 th button');
      expect(await text(page, '#r1-more')).toMatch(/lowbit bench --model tiny --recipe 'rtn-2'[\s\S]*seed 0: 0\.15\d* ± 0\.01 · seed 1/);
      await page.click('#r1 th button');
      expect(await isShown(page, '#r1-more')).toBe(false);
      await page.click(`${tiny} figure:not([hidden]) .wide svg a[href="#r2"] path`);
      await page.waitForFunction(`!document.querySelector('#r2-more').hidden`);
      expect(await isShown(page, '#r6-more')).toBe(false);
      await page.click('#r6 th button');
      expect(await text(page, '#r6-more')).toContain('GROUP_SIZE: somewhere: something');
    });
  });

  it('says what a point and a cell stand for', async () => {
    await withPage(async (page) => {
      await see(page, `${tiny} .wide svg a[href="#r1"]:has([aria-label])`, 'focus()');
      expect(await text(page, '#tip')).toMatch(
        /^rtn-2\n2\.50 bits per weight\nLoss added 1\.505 ± 0\.031 nats per token\ndeviation between 2 seeds 0\.0071/,
      );
      await page.hover('.model .heat tbody tr td:nth-child(3)');
      expect(await text(page, '#tip')).toMatch(/^gptq-2\n1\.q: 0\.0\d+$/);
      await page.keyboard.press('Escape');
      expect(await isShown(page, '#tip')).toBe(false);
    });
  });

  it('has axes whose ticks differ', async () => {
    await withPage(async (page) => {
      const axes = (await page.evaluate(
        `[...document.querySelectorAll('.role-axis-label')].map((axis) => [...axis.children].map((tick) => tick.textContent))`,
      )) as string[][];
      expect(axes.length).toBeGreaterThan(10);
      for (const ticks of axes) expect([new Set(ticks).size, ticks]).toEqual([ticks.length, ticks]);
    });
  });

  it('follows the system’s theme, and the switch', async () => {
    await withPage(async (page) => {
      const paper = (): Promise<string> => page.evaluate('getComputedStyle(document.body).backgroundColor') as Promise<string>;
      await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'dark' }]);
      expect(await paper()).toBe('rgb(20, 23, 26)');
      await choose(page, '[name="theme"][value="light"]');
      expect(await paper()).toBe('rgb(255, 255, 255)');
    });
  });

  it('fits a phone, with plots of their own', async () => {
    await withPage(async (page) => {
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(390);
      expect(await isShown(page, '.model .wide')).toBe(false);
      expect(await isShown(page, '.model .narrow')).toBe(true);
    }, 390);
  });
});
