// Turns a trained model into a checkpoint directory, and measures what the checkpoint says of itself: from the written files.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Backend, createRng, type Model, materialize, readFloats, type TokenBatches } from '@lowbit/core';
import { batchWindows, cutWindows, type Tokenizer, type TokenWindows } from '@lowbit/data';
import { openCheckpoint, storedTensor, writeSafetensors } from '@lowbit/formats';
import { generate, loadModel } from '@lowbit/models';
import type { TokenizedCorpus } from './corpus.js';
import { meanLoss } from './run.js';
import { parametersOf } from './step.js';
import { trainTrigram, trigramLoss } from './trigram.js';

/** Windows of the short slice whose perplexity the package's test repeats. */
const SLICE_WINDOWS = 32;
const EVALUATION_BATCH = 16;
/** How the samples are drawn, and what generation_config.json recommends. */
export const SAMPLING = { temperature: 0.7, topP: 0.95, tokens: 120 } as const;
const PROMPTS = ['', 'The state of the Union', 'Our relations with foreign powers', 'My fellow Americans, tonight'] as const;

/** A channel of the residual stream and its root mean square over tokens. */
export interface ChannelMagnitude {
  readonly channel: number;
  readonly magnitude: number;
}

/** The residual stream before one block, over one batch of held-out windows. */
export interface ResidualReport {
  readonly block: number;
  /** The largest channels, largest first. */
  readonly largest: readonly ChannelMagnitude[];
  /** Median over all channels. */
  readonly median: number;
}

export interface Measurements {
  readonly protocol: Readonly<Record<string, unknown>>;
  readonly heldOutLoss: number;
  readonly heldOutPerplexity: number;
  readonly sliceWindows: number;
  readonly slicePerplexity: number;
  readonly trigramLoss: number;
  readonly trigramPerplexity: number;
  readonly residualStream: readonly ResidualReport[];
  readonly samples: readonly { readonly prompt: string; readonly text: string }[];
}

/** Held-out windows as they are scored: consecutive, of the context's length. */
export function heldOutWindows(corpus: TokenizedCorpus, length: number, limit?: number): TokenWindows {
  return cutWindows(corpus.heldOut, { window: length, limit });
}

/** Batches for evaluation. */
export function evaluationBatches(windows: TokenWindows): TokenBatches {
  return batchWindows(windows, EVALUATION_BATCH);
}

/** Writes weights in bfloat16 and the files beside them, in Hugging Face layout. */
export async function writeCheckpoint(directory: string, model: Model, files: TokenizedCorpus['files']): Promise<void> {
  await mkdir(directory, { recursive: true });
  const { source } = model.config;
  const generation = {
    bos_token_id: source.bos_token_id,
    eos_token_id: source.eos_token_id,
    pad_token_id: source.pad_token_id,
    do_sample: true,
    temperature: SAMPLING.temperature,
    top_p: SAMPLING.topP,
  };
  const tensors = [...parametersOf(model)].map(([name, t]) => storedTensor(name, t, 'BF16'));
  await writeSafetensors(join(directory, 'model.safetensors'), tensors, { metadata: { format: 'pt' } });
  const write = (name: string, content: unknown, indent = 2): Promise<void> =>
    writeFile(join(directory, name), `${JSON.stringify(content, null, indent)}\n`);
  await write('config.json', source);
  await write('generation_config.json', generation);
  await write('tokenizer.json', files.tokenizer, 0);
  await write('tokenizer_config.json', files.config);
}

/** Opens a checkpoint directory and measures the model in it. */
export async function measureCheckpoint(backend: Backend, directory: string, corpus: TokenizedCorpus, seed: number): Promise<Measurements> {
  const model = await materialize(await loadModel(await openCheckpoint(directory)));
  const { contextLength, vocabularySize } = model.config;
  const windows = heldOutWindows(corpus, contextLength);
  const batches = evaluationBatches(windows);
  const heldOutLoss = await meanLoss(backend, model, batches);
  const sliceLoss = await meanLoss(backend, model, evaluationBatches(heldOutWindows(corpus, contextLength, SLICE_WINDOWS)));
  const trigram = trigramLoss(trainTrigram(corpus.train.ids, vocabularySize), corpus.heldOut.ids, contextLength);
  return {
    protocol: windows.protocol,
    heldOutLoss,
    heldOutPerplexity: Math.exp(heldOutLoss),
    sliceWindows: SLICE_WINDOWS,
    slicePerplexity: Math.exp(sliceLoss),
    trigramLoss: trigram,
    trigramPerplexity: Math.exp(trigram),
    residualStream: await residualStream(backend, model, batches),
    samples: await samples(backend, model, corpus.tokenizer, seed),
  };
}

/** Magnitudes of the residual stream before each block, over the first batch. */
export async function residualStream(backend: Backend, model: Model, batches: TokenBatches, largest = 6): Promise<ResidualReport[]> {
  const streams = [model.embedding.forward(await batches.at(0))];
  for (const block of model.blocks.slice(0, -1)) streams.push(block.forward(streams[streams.length - 1]));
  const evaluated = await backend.evaluate(streams);
  return Promise.all(
    evaluated.map(async (stream, block) => {
      const width = stream.shape[2];
      const data = await readFloats(stream);
      const squares = new Float64Array(width);
      for (let i = 0; i < data.length; i++) squares[i % width] += data[i] ** 2;
      const ranked = Array.from(squares, (square, channel) => ({ channel, magnitude: Math.sqrt((square * width) / data.length) })).sort(
        (a, b) => b.magnitude - a.magnitude,
      );
      return { block, largest: ranked.slice(0, largest), median: ranked[width >> 1].magnitude };
    }),
  );
}

async function samples(backend: Backend, model: Model, tokenizer: Tokenizer, seed: number): Promise<{ prompt: string; text: string }[]> {
  const continued = await generate(model, backend, {
    prompts: PROMPTS.map((prompt) => tokenizer.encode(prompt, { bos: true })),
    maxTokens: SAMPLING.tokens,
    temperature: SAMPLING.temperature,
    topP: SAMPLING.topP,
    rng: createRng(seed).at('samples'),
    stopToken: tokenizer.eosToken,
  });
  return PROMPTS.map((prompt, i) => ({ prompt, text: tokenizer.decode(continued[i]) }));
}
