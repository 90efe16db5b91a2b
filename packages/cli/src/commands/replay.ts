// lowbit replay: rebuilds what a zeroth-order run made from the model that it began with and its log, a few numbers a step.
import { readFile, realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type ResolvedModel, resolveModel } from '@lowbit/bench';
import { LowbitError, type Model } from '@lowbit/core';
import { directoryBytes, type StepRecord, saveCheckpoint } from '@lowbit/formats';
import { LOG_FILE, parseLog, quzo, replayLog, type Trajectory } from '@lowbit/quzo';
import type { Command } from 'commander';
import { addOutputOptions, type OutputArguments } from '../arguments.js';
import { type CommandContext, claimDirectory } from '../context.js';
import { createReporter } from '../reporter.js';

interface ReplayArguments extends OutputArguments {
  readonly out: string;
  readonly force?: boolean;
}

export function addReplayCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('replay')
    .description('rebuild what quzo made, bit for bit and without data, from its log')
    .argument('<model>', 'the model that the run of quzo was given: the steps before it applied')
    .argument('<log>', `${LOG_FILE}, which 'lowbit quantize' writes beside the checkpoint`)
    .requiredOption('--out <directory>', 'where the checkpoint goes')
    .option('--force', 'overwrite the checkpoint that is there');
  addOutputOptions(command, 'one JSON object about the run on stdout');
  command.action((reference: string, log: string, options: ReplayArguments) => runReplay(reference, log, options, context));
}

async function runReplay(reference: string, log: string, options: ReplayArguments, context: CommandContext): Promise<void> {
  const { directory } = context;
  const path = resolve(directory, log);
  const text = await readLog(path);
  const resolved = await resolveModel(reference, directory, context.hub);
  const out = resolve(directory, options.out);
  const claimed = await claimDirectory(out, options.force === true);
  try {
    await replayInto(out, resolved, { path, text }, options, context);
  } finally {
    await claimed.release();
  }
}

async function readLog(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const message = `${path}: ${(cause as Error).message}; give the ${LOG_FILE} of a model that quzo made`;
    throw new LowbitError('REPLAY_FILE', message, { cause });
  }
}

async function replayInto(
  out: string,
  { name, model, checkpoint }: ResolvedModel,
  { path, text }: { readonly path: string; readonly text: string },
  options: ReplayArguments,
  { terminal, signal, startWork }: CommandContext,
): Promise<void> {
  if ((await realpath(out)) === (await realpath(checkpoint.path))) {
    throw new LowbitError('OUTPUT_IS_SOURCE', `${out}: is the model that the run began with; choose another output directory`);
  }
  const { trajectory, end } = parseLog(text, path);
  const reporter = createReporter(terminal, { isQuiet: options.quiet === true });
  const started = performance.now();
  try {
    const made = await replayLog(model, trajectory, {
      end,
      signal,
      progress: (done, total) => reporter.progress('replay', name, done, total),
    });
    startWork();
    await saveCheckpoint(out, made, {
      ...checkpoint.provenance,
      recipe: [...(checkpoint.provenance.recipe ?? []), stepOf(trajectory, model)],
      sideFiles: new Map([...checkpoint.sideFiles, [LOG_FILE, { read: async () => Buffer.from(text) }]]),
      overwrite: options.force === true,
      signal,
      progress: (done, total) => reporter.progress('writing', out, done, total),
    });
  } finally {
    reporter.end();
  }
  const bytes = await directoryBytes(out);
  const [steps, seconds] = [trajectory.records.length, (performance.now() - started) / 1000];
  terminal.out(
    options.json
      ? `${JSON.stringify({ model: name, out, steps, digest: end, bytes, seconds })}\n`
      : `${out}: ${steps} steps replayed, digest ${end} as in the log, ${(bytes / 2 ** 20).toFixed(1)} MiB on disk, ${seconds.toFixed(1)} s\n`,
  );
}

/** The step that the log is of. What its options were for single Linears is in the log. */
function stepOf({ options, parameters }: Trajectory, { blocks }: Model): StepRecord {
  const paths = blocks.flatMap(({ path, linears }) => Object.keys(linears).map((name) => `${path}.${name}`));
  const targets = paths.filter((path) => parameters.some(({ name }) => name.startsWith(`${path}.`)));
  const { name: method, version } = quzo.definition;
  return { method, version, options, targets, overrides: [] };
}
