// lowbit bench-worker: runs cells of benchmarks that are put into a queue, until it is stopped.
import { type CellResult, describeCode, openTaskProcess, queueName, serveQueue } from '@lowbit/bench';
import type { Command } from 'commander';
import { addBackendOption, type EngineArguments, integer } from '../arguments.js';
import { type CellWork, cellProcess } from '../bench-cells.js';
import type { CommandContext } from '../context.js';
import { createReporter } from '../reporter.js';

interface WorkerArguments extends Pick<EngineArguments, 'backend'> {
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
  addBackendOption(command);
  command.action((options: WorkerArguments) => work(options, context));
}

/** Each plan says on how many threads its cells run. */
async function work({ queue, lostAfter, quiet, backend }: WorkerArguments, context: CommandContext): Promise<void> {
  const { terminal, directory, hub, signal } = context;
  const { note } = createReporter(terminal, { isQuiet: quiet === true });
  const isOffline = hub.settings?.isOffline === true;
  const module = cellProcess({ engine: { backend, threads: 1 }, isOffline, isElsewhere: true }, directory);
  const cells = openTaskProcess<CellWork, CellResult>(module);
  try {
    await serveQueue<CellWork, CellResult>((task, stop) => cells.run(task, stop), {
      ...{ url: queue, name: queueName(backend), lostAfter, signal, onNote: note },
      // An engine that does not start is found out before it costs others their cells.
      prepare: () => cells.open(signal),
      onReady() {
        context.startWork();
        note(`waiting for cells of ${describeCode(backend)}; Ctrl-C stops, and gives back what is being run`);
      },
    });
  } finally {
    cells.close();
  }
}
