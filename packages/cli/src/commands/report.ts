// lowbit report: a run of `lowbit bench` as one HTML page to look at and to send.
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { LowbitError } from '@lowbit/core';
import type { Command } from 'commander';
import type { CommandContext } from '../context.js';
import { writeReport } from '../run-report.js';

interface ReportArguments {
  readonly out?: string;
  readonly force?: boolean;
}

export function addReportCommand(program: Command, context: CommandContext): void {
  program
    .command('report')
    .description('make one HTML page of a run of bench: plots, tables, protocol, and how to repeat each number')
    .argument('<run>', 'directory that bench --out has written')
    .option('--out <file>', 'instead of report.html in that directory')
    .option('--force', 'overwrite that file')
    .action((run: string, options: ReportArguments) => report(run, options, context));
}

async function report(run: string, { out, force }: ReportArguments, { terminal, directory }: CommandContext): Promise<void> {
  const path = out === undefined ? undefined : resolve(directory, out);
  if (path !== undefined && existsSync(path) && !force) {
    throw new LowbitError('OUTPUT_EXISTS', `${path}: is there already; choose another file, or overwrite it with --force`);
  }
  terminal.out(`${await writeReport(resolve(directory, run), path)}\n`);
}
