// lowbit report: a run of `lowbit bench` as one HTML page to look at and to send.
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { LowbitError } from '@lowbit/core';
import type { Command } from 'commander';
import type { CommandContext } from '../context.js';
import { writePlot, writeReport } from '../run-report.js';

interface ReportArguments {
  readonly out?: string;
  readonly plot?: string;
  readonly model?: string;
  readonly score?: string;
  readonly force?: boolean;
}

export function addReportCommand(program: Command, context: CommandContext): void {
  program
    .command('report')
    .description('make one HTML page of a run of bench: plots, tables, protocol, and how to repeat each number')
    .argument('<run>', 'directory that bench --out has written')
    .option('--out <file>', 'instead of report.html in that directory')
    .option('--plot <file>', 'draw size against a score as an SVG instead, for papers and pages')
    .option('--model <name>', 'of --plot, for a run of several')
    .option('--score <name>', "of --plot: 'loss-gap', 'perplexity', 'kl', … (the first that the run has)")
    .option('--force', 'overwrite that file')
    .action((run: string, options: ReportArguments) => report(run, options, context));
}

async function report(
  run: string,
  { out, plot, model, score, force }: ReportArguments,
  { terminal, directory }: CommandContext,
): Promise<void> {
  if (plot !== undefined && out !== undefined)
    throw new LowbitError('OPTIONS_INVALID', '--out names the page and --plot a picture; ask for one of them at a time');
  if (plot === undefined && (model !== undefined || score !== undefined))
    throw new LowbitError('OPTIONS_INVALID', '--model and --score say what --plot draws; add --plot <file>');
  const file = plot ?? out;
  const path = file === undefined ? undefined : resolve(directory, file);
  if (path !== undefined && existsSync(path) && !force) {
    throw new LowbitError('OUTPUT_EXISTS', `${path}: is there already; choose another file, or overwrite it with --force`);
  }
  if (plot === undefined) terminal.out(`${await writeReport(resolve(directory, run), path)}\n`);
  else {
    await writePlot(resolve(directory, run), resolve(directory, plot), { model, score });
    terminal.out(`${resolve(directory, plot)}\n`);
  }
}
