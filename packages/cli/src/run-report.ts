// The report of a run, as a file beside what it was made from.
import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type PlotOptions, REPORT, readRun, renderPlot, renderReport } from '@lowbit/bench';
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
  await write(path, page, '--out');
  return path;
}

/** Draws size against a score of one model of a run as an SVG. @throws as `writeReport`, and REPORT_PLOT for what the run does not have. */
export async function writePlot(directory: string, path: string, options: PlotOptions): Promise<void> {
  await write(path, await renderPlot(readRun(directory), options), '--plot');
}

async function write(path: string, content: string, option: string): Promise<void> {
  await writeFile(path, content).catch((cause: Error) => {
    throw new LowbitError('REPORT_WRITE', `${path}: ${cause.message}; choose another file with ${option}`, { cause });
  });
}
