// The report of a run, as a file beside what it was made from.
import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { REPORT, readRun, renderReport } from '@lowbit/bench';
import { LowbitError } from '@lowbit/core';
import { benchCommand } from './bench-command.js';

/**
 * Makes the page of a run's folder, and replaces the one that was there. @returns its path.
 * @throws RUN_MISSING, RESUME_ROWS and REPORT_ROWS for a folder that is none of a run, REPORT_WRITE.
 */
export async function writeReport(directory: string, path = join(directory, REPORT)): Promise<string> {
  const run = readRun(directory);
  const plan = run.record?.plan;
  const page = await renderReport(run, {
    title: basename(directory),
    command: plan && benchCommand(plan),
    commandFor: plan && ((model, recipe) => benchCommand(plan, { model, recipe })),
  });
  await writeFile(path, page).catch((cause: Error) => {
    throw new LowbitError('REPORT_WRITE', `${path}: ${cause.message}; choose another file with --out`, { cause });
  });
  return path;
}
