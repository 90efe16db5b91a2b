// `pnpm train:tiny [name …]`: trains the checkpoints of this package, from the last saved step where a run was interrupted,
// and writes models/<name> and records/<name>.
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Backend, createRng, LowbitError, type Model, materialize } from '@lowbit/core';
import { createFileStore, openCheckpoint } from '@lowbit/formats';
import { loadModel } from '@lowbit/models';
import { initialParameters } from './architecture.js';
import { type TokenizedCorpus, tokenizedSpeeches } from './corpus.js';
import { lossCurveSvg } from './loss-curve.js';
import { tinyModel } from './model.js';
import { modelCard } from './model-card.js';
import { withOutliers } from './outliers.js';
import { showProgress } from './progress.js';
import { evaluationBatches, heldOutWindows, measureCheckpoint, writeCheckpoint } from './publish.js';
import { recipes, type TrainingRecipe } from './recipes.js';
import { trainingRecord } from './record.js';
import { train } from './run.js';
import { totalSteps } from './schedule.js';
import { trainingBatch } from './windows.js';

const USAGE = `usage: pnpm train:tiny [${Object.keys(recipes).join('] [')}] [--threads N] [--runs DIR] [--note TEXT]

  --threads N   threads of the engine; all cores by default
  --runs DIR    where interrupted runs are kept; runs/train-tiny by default
  --note TEXT   a sentence for the record, such as what interrupted the run
`;

const POINTS_EVERY = 100;
const packageFolder = fileURLToPath(new URL('..', import.meta.url));
const say = (text: string): void => void process.stderr.write(`${text}\n`);

interface Options {
  readonly names: readonly string[];
  readonly threads: number;
  readonly runs: string;
  readonly note: string | undefined;
}

function parseOptions(): Options | undefined {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      threads: { type: 'string' },
      runs: { type: 'string', default: 'runs/train-tiny' },
      note: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return undefined;
  const names = positionals.length > 0 ? positionals : Object.keys(recipes);
  const unknown = names.find((name) => !Object.hasOwn(recipes, name));
  if (unknown !== undefined)
    throw new LowbitError('OPTIONS_INVALID', `train:tiny: no checkpoint '${unknown}'; there are ${Object.keys(recipes).join(', ')}`);
  return { names, threads: Number(values.threads ?? availableParallelism()), runs: values.runs, note: values.note };
}

/** The model that training starts from. */
async function startingModel(backend: Backend, recipe: TrainingRecipe, { tokenizer, train: { ids } }: TokenizedCorpus): Promise<Model> {
  const { shape, startsFrom, outliers } = recipe;
  const rng = createRng(recipe.seed);
  if (startsFrom === undefined) return tinyModel(shape, initialParameters(shape, rng.at('initial')));
  const model = await materialize(await loadModel(await openCheckpoint(join(packageFolder, 'models', startsFrom))));
  if (!outliers) return model;
  // Texts of one token each; BOS is a special token and has no text.
  const massiveTokens = outliers.massiveTokens.map((text) => (text === '<s>' ? (tokenizer.bosToken ?? 0) : tokenizer.encode(text)[0]));
  const windows = trainingBatch(ids, shape.contextLength - 1, recipe.batch, 0, rng.at('scales'));
  return tinyModel(shape, await withOutliers(backend, model, windows, { ...outliers, massiveTokens }, rng.at('outliers')));
}

async function commit(): Promise<string> {
  const { stdout } = await promisify(execFile)('git', ['rev-parse', 'HEAD'], { cwd: packageFolder });
  return stdout.trim();
}

async function trainOne(recipe: TrainingRecipe, { threads, runs, note }: Options, signal: AbortSignal): Promise<void> {
  const { name, shape, batch } = recipe;
  const corpus = await tokenizedSpeeches(runs, shape.vocabularySize, shape.contextLength, (stage) => say(`${name}: ${stage}`));
  // A run of hours shares the machine with other work.
  const backend = await createOnnxBackend({ threads, spin: false });
  const { model, curve } = await train({
    backend,
    model: await startingModel(backend, recipe, corpus),
    recipe,
    tokens: corpus.train.ids,
    heldOut: evaluationBatches(heldOutWindows(corpus, shape.contextLength)),
    store: createFileStore(runs),
    evaluateEvery: POINTS_EVERY,
    saveEvery: POINTS_EVERY,
    onEvent: showProgress({
      name,
      steps: totalSteps(recipe.schedule),
      tokensPerStep: batch * shape.contextLength,
      isTerminal: process.stderr.isTTY === true,
      write: (text) => void process.stderr.write(text),
      now: () => performance.now(),
    }),
    signal,
  });
  const directory = join(packageFolder, 'models', name);
  const records = join(packageFolder, 'records', name);
  await writeCheckpoint(directory, model, corpus.files);
  say(`${name}: measuring ${directory}`);
  const measurements = await measureCheckpoint(backend, directory, corpus, recipe.seed);
  const run = { command: `pnpm train:tiny ${name}`, commit: await commit(), engine: `${backend.name}, ${threads} threads`, note };
  const record = trainingRecord({ recipe, model, corpus, run, measurements, curve });
  await mkdir(records, { recursive: true });
  await writeFile(join(records, 'training.json'), `${JSON.stringify(record, null, 2)}\n`);
  await writeFile(join(records, 'loss-curve.svg'), lossCurveSvg(name, curve, measurements.trigramLoss));
  await writeFile(join(records, 'MODEL_CARD.md'), modelCard(record));
  await backend.dispose();
  say(`${name}: held-out perplexity ${measurements.heldOutPerplexity.toFixed(2)}, trigram ${measurements.trigramPerplexity.toFixed(2)}`);
}

const cancel = new AbortController();
process.once('SIGINT', () => cancel.abort());
try {
  const options = parseOptions();
  if (options) for (const name of options.names) await trainOne(recipes[name], options, cancel.signal);
  else process.stdout.write(USAGE);
} catch (error) {
  if (!(error instanceof LowbitError) && (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') !== true) throw error;
  say(`${(error as Error).message}\n\n${USAGE}`);
  process.exitCode = 2;
}
