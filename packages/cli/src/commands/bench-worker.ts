// lowbit bench-worker: runs cells of benchmarks that are put into a queue, until it is stopped.
import { type CellResult, openTaskProcess, serveQueue } from '@lowbit/bench';
import type { Command } from 'commander';
import { addEngineOptions, type EngineArguments, integer } from '../arguments.js';
import { type CellWork, cellProcess } from '../bench-cells.js';
import type { CommandContext } from '../context.js';
import { createReporter } from '../reporter.js';

interface WorkerArguments extends EngineArguments {
  readonly queue: string;
  readonly lostAfter: number;
  readonly quiet?: boolean;
}

export function addBenchWorkerCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('bench-worker')
    .description('run cells of lowbit bench --queue, one at a time, until it is stopped')
    .requiredOption('--queue <url>', 'the Redis server to take them from: redis://host:6379')
    .option('--lost-after <seconds>', 'without a sign of life for so long, this worker is lost and others run its cell', integer(1), 30)
    .option('--quiet', 'no progress, only warnings and errors');
  addEngineOptions(command);
  command.action((options: WorkerArguments) => work(options, context));
}

async function work({ queue, lostAfter, quiet, ...engine }: WorkerArguments, context: CommandContext): Promise<void> {
  const { terminal, directory, signal } = context;
  const { note } = createReporter(terminal, { isQuiet: quiet === true });
  const cells = openTaskProcess<CellWork, CellResult>(cellProcess(engine, directory));
  try {
    await serveQueue<CellWork, CellResult>((task, stop) => cells.run(task, stop), {
      ...{ url: queue, lostAfter, signal, onNote: note },
      onReady() {
        context.startWork();
        note('waiting for cells; Ctrl-C stops, and gives back what is being run');
      },
    });
  } finally {
    cells.close();
  }
}
