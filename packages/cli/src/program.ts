// The command line as a whole: its commands, and how it ends.
import { LowbitError } from '@lowbit/core';
import { Command } from 'commander';
import { settleBackend } from './arguments.js';
import { addAdviseCommand } from './commands/advise.js';
import { addBenchCommand } from './commands/bench.js';
import { addBenchWorkerCommand } from './commands/bench-worker.js';
import { addDevicesCommand } from './commands/devices.js';
import { addEvalCommand } from './commands/evaluate.js';
import { addGenerateCommand } from './commands/generate.js';
import { addInspectCommand } from './commands/inspect.js';
import { addMethodsCommand } from './commands/methods.js';
import { addNewMethodCommand } from './commands/new-method.js';
import { addPlanCommand } from './commands/plan.js';
import { addQuantizeCommand } from './commands/quantize.js';
import { addReplayCommand } from './commands/replay.js';
import { addReportCommand } from './commands/report.js';
import { addReproduceCommand } from './commands/reproduce.js';
import type { CommandContext } from './context.js';
import { exitCodes, reportError } from './exit.js';
import { hubAccess } from './hub-access.js';
import type { Terminal } from './terminal.js';
import { readVersion } from './version.js';

export interface CommandLine {
  /** What follows the command's name. */
  readonly arguments: readonly string[];
  readonly terminal: Terminal;
  readonly directory: string;
  readonly signal: AbortSignal;
}

/** Runs one command and returns the exit code: 0, 1 for a failure, 2 for bad input, 130 when cancelled. */
export async function runCommandLine({ arguments: words, terminal, directory, signal }: CommandLine): Promise<number> {
  let isWorking = false;
  const hub = hubAccess(terminal, signal);
  const program = createProgram({ terminal, directory, signal, hub: hub.options, startWork: () => (isWorking = true) });
  program.hook('preAction', (_, command) => hub.begin(command.optsWithGlobals()));
  program.hook('preAction', (_, command) => settleBackend(command, terminal));
  try {
    await program.parseAsync(words, { from: 'user' });
    return exitCodes.ok;
  } catch (error) {
    hub.end();
    // What an interrupted engine or file throws is not the story: the person stopped it.
    if (signal.aborted) return reportError(new LowbitError('ABORTED', 'the run was cancelled', { cause: error }), isWorking, terminal);
    return reportError(error, isWorking, terminal);
  }
}

function createProgram(context: CommandContext): Command {
  const { terminal } = context;
  const program = new Command('lowbit')
    .description('Quantize language models, judge the result, and compare methods.')
    .version(readVersion(), '--version', 'print the version')
    .helpOption('--help', 'print help')
    .option('--offline', 'fetch nothing: what is named hf:owner/name, of the Hugging Face hub, comes from the cache alone')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({ writeOut: terminal.out, writeErr: terminal.err, getOutHelpWidth: () => 120, getErrHelpWidth: () => 120 })
    .showHelpAfterError('(lowbit --help lists commands, lowbit <command> --help its options)');
  addQuantizeCommand(program, context);
  addPlanCommand(program, context);
  addReplayCommand(program, context);
  addEvalCommand(program, context);
  addBenchCommand(program, context);
  addBenchWorkerCommand(program, context);
  addAdviseCommand(program, context);
  addReportCommand(program, context);
  addReproduceCommand(program, context);
  addGenerateCommand(program, context);
  addInspectCommand(program, context);
  addDevicesCommand(program, context);
  addMethodsCommand(program, context);
  addNewMethodCommand(program, context);
  return program;
}
