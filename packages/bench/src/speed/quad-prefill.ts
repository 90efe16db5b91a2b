// Prompts through a model as it is and through the same one quantized by QUAD, simulated and in integers: time to the first token, and memory.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Backend, createRng, type Model, materialize } from '@lowbit/core';
import { openCheckpoint, saveCheckpoint } from '@lowbit/formats';
import { densify, generate, integerExecution, loadModel } from '@lowbit/models';
import { quantize } from '@lowbit/pipeline';
import { defaultRank, quad } from '@lowbit/quad';
import { linearKinds } from '@lowbit/quant';
import { rtn } from '@lowbit/rtn';
import { measurePeakMemory } from '../peak-memory.js';
import { syntheticLlama } from './llama.js';
import { bestTimes } from './report.js';

/** Bits of weights and of the inputs of all Linears of the blocks. */
const formats = { W4A4: 4, W8A8: 8 } as const;

/** Where the model lies as it is; quantized ones lie under their format. */
export const FLOAT = 'float';

/** What is compared: the model as it is, then every format on the floats that codes stand for, and on the codes. */
export const executions = [
  FLOAT,
  ...Object.keys(formats).flatMap((format) => [`${format} simulated`, `${format} integers`]),
] as readonly string[];

/** Prompts that are taken in together. */
export interface PrefillSize {
  readonly batch: number;
  /** Of each prompt. */
  readonly tokens: number;
}

/** Milliseconds to the first token by execution. */
export interface PrefillTimes extends PrefillSize {
  readonly times: Readonly<Record<string, number>>;
}

/** MiB resident before a model is opened, and at the peak. */
export interface PrefillMemory {
  readonly before: number;
  readonly peak: number;
}

/** A Llama of random weights, two blocks of this width, that can be saved: what is measured depends on shapes alone. */
export function randomLlama(width: number): Model {
  const shape = {
    width,
    inner: Math.ceil((8 * width) / 768) * 256,
    blocks: 2,
    heads: Math.ceil(width / 128),
    vocabulary: 4096,
    context: 4096,
  };
  const model = syntheticLlama(shape);
  const source = {
    model_type: 'llama',
    vocab_size: shape.vocabulary,
    hidden_size: width,
    intermediate_size: shape.inner,
    num_hidden_layers: shape.blocks,
    num_attention_heads: shape.heads,
    max_position_embeddings: shape.context,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: true,
  };
  return model.with({ config: { ...model.config, source } });
}

/**
 * Saves a model and its quantized forms and hands on where they lie; the files are removed afterwards. Directions are random and weights
 * rounded to nearest, which needs no text: how long a prompt takes does not depend on them.
 */
export async function withForms<T>(backend: Backend, model: Model, use: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'lowbit-prefill-'));
  try {
    await saveCheckpoint(join(directory, FLOAT), model);
    for (const [format, bits] of Object.entries(formats)) {
      const transform = quad({ rank: defaultRank(model.width), basis: 'random', activationBits: bits, outputActivationBits: bits });
      const recipe = [transform, rtn({ bits, groupSize: -1, symmetric: true })];
      const quantized = await quantize({ model, backend, recipe, kinds: linearKinds });
      await saveCheckpoint(join(directory, format), quantized.model);
    }
    return await use(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** A form as it is run: weights in memory, dense ones as float32, those in integers as codes. */
export async function openForm(backend: Backend, directory: string, execution: string): Promise<Model> {
  const [form, how] = execution.split(' ');
  const model = await loadModel(await openCheckpoint(join(directory, form)));
  return materialize(await densify(how === 'integers' ? integerExecution(model).model : model, backend));
}

/** Linears of the quantized model, the head among them, and how many of them multiply codes. */
export async function layersInIntegers(directory: string): Promise<{ integer: number; all: number }> {
  const { integer, simulated } = integerExecution(await loadModel(await openCheckpoint(join(directory, 'W4A4'))));
  return { integer: integer.length, all: integer.length + simulated.length };
}

/** The most probable token after each of some random prompts. */
export function firstTokens(backend: Backend, model: Model, { batch, tokens }: PrefillSize): Promise<Int32Array[]> {
  const ids = createRng(0).at('prompts');
  const prompts = Array.from({ length: batch }, (_, i) => Int32Array.from(ids.at(i).integers(tokens, model.config.vocabularySize)));
  return generate(model, backend, { prompts, maxTokens: 1 });
}

/** Best times of all executions, which take turns. */
export async function prefillTimes(
  backend: Backend,
  directory: string,
  sizes: readonly PrefillSize[],
  rounds: number,
): Promise<PrefillTimes[]> {
  const models = new Map<string, Model>();
  for (const execution of executions) models.set(execution, await openForm(backend, directory, execution));
  const measured: PrefillTimes[] = [];
  for (const size of sizes) {
    const jobs = Object.fromEntries([...models].map(([execution, model]) => [execution, () => firstTokens(backend, model, size)]));
    measured.push({ ...size, times: await bestTimes(jobs, rounds) });
  }
  return measured;
}

/** What opening a form and taking in prompts makes resident: of a process that does nothing else. */
export async function prefillMemory(backend: Backend, directory: string, execution: string, size: PrefillSize): Promise<PrefillMemory> {
  // Code that every execution runs through is compiled before.
  await firstTokens(backend, randomLlama(128), { batch: 1, tokens: 8 });
  const before = process.memoryUsage().rss / 2 ** 20;
  // The peak that the operating system counts for a process begins with that of the one which started it.
  const takePeak = measurePeakMemory();
  await firstTokens(backend, await openForm(backend, directory, execution), size);
  return { before, peak: takePeak() };
}
