// Publishing: a checkpoint that loads elsewhere, and a record and card that say what was measured on it.
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Backend, createRng, decodeBfloat16, encodeBfloat16, readFloats } from '@lowbit/core';
import { corpusOf, createTokenizer, partOf, tokenStream } from '@lowbit/data';
import { openCheckpoint } from '@lowbit/formats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { initialParameters } from '../train/architecture.js';
import { tokenizerConfig, tokenizerJson, trainBytePairs } from '../train/bpe.js';
import type { TokenizedCorpus } from '../train/corpus.js';
import { tinyModel } from '../train/model.js';
import { modelCard } from '../train/model-card.js';
import { measureCheckpoint, writeCheckpoint } from '../train/publish.js';
import { recipes } from '../train/recipes.js';
import { trainingRecord } from '../train/record.js';

const shape = {
  vocabularySize: 270,
  hiddenSize: 8,
  blockCount: 1,
  headCount: 2,
  keyValueHeadCount: 1,
  headDim: 4,
  innerSize: 8,
  contextLength: 160,
  tiedEmbeddings: true,
};

function toyCorpus(): TokenizedCorpus {
  const line = (i: number): string => `The state of the nation in year ${1800 + i} is good, and the people of the states are at peace. `;
  const all = corpusOf(Array.from({ length: 20 }, (_, i) => Array.from({ length: 8 }, (_, j) => line(8 * i + j)).join('')));
  const [train, heldOut] = [partOf(all, 'train'), partOf(all, 'held-out')];
  const files = {
    tokenizer: tokenizerJson(trainBytePairs(train.documents, shape.vocabularySize)),
    config: tokenizerConfig(shape.contextLength),
  };
  const tokenizer = createTokenizer(files.tokenizer, files.config);
  return {
    tokenizer,
    files,
    train: tokenStream(train, tokenizer, { bos: 'document' }),
    heldOut: tokenStream(heldOut, tokenizer, { bos: 'document' }),
  };
}

describe('writeCheckpoint and measureCheckpoint', () => {
  let backend: Backend;
  let directory: string;
  beforeAll(async () => {
    backend = await createOnnxBackend({ threads: 1 });
    directory = await mkdtemp(join(tmpdir(), 'lowbit-tiny-'));
  });
  afterAll(async () => {
    await rm(directory, { recursive: true });
    await backend.dispose();
  });

  it('write what loads, rounded to bfloat16, and measure it', async () => {
    const corpus = toyCorpus();
    const parameters = initialParameters(shape, createRng(1));
    const model = await tinyModel(shape, parameters);
    await writeCheckpoint(directory, model, corpus.files);
    expect((await readdir(directory)).sort()).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    const name = 'model.layers.0.mlp.gate_proj.weight';
    const stored = await readFloats((await openCheckpoint(directory)).tensor(name));
    expect(stored).toEqual(decodeBfloat16(encodeBfloat16(await readFloats(parameters.get(name)!))));

    const measurements = await measureCheckpoint(backend, directory, corpus, 1);
    // Fresh weights know nothing: near the uniform distribution. The trigram knows these repetitive lines well.
    expect(Math.abs(measurements.heldOutLoss - Math.log(shape.vocabularySize))).toBeLessThan(0.3);
    expect(measurements.trigramLoss).toBeLessThan(1.5);
    expect(measurements.residualStream[0].largest[0].magnitude).toBeGreaterThanOrEqual(measurements.residualStream[0].median);

    const recipe = { ...recipes['tiny-outliers'], shape };
    const run = { command: 'pnpm train:tiny', commit: 'abc', engine: backend.name };
    const curve = [{ step: 10, tokens: 16000, trainLoss: 4, heldOutLoss: 4.1 }];
    const record = trainingRecord({ recipe, model, corpus, run, measurements, curve });
    expect(record.parameters.total).toBe(record.parameters.blocks + 270 * 8 + 8);
    const card = modelCard(record);
    for (const said of [
      measurements.heldOutPerplexity.toFixed(2),
      measurements.trigramPerplexity.toFixed(2),
      record.data.heldOutSha256,
      'channel 140',
      'from the weights of `tiny`',
    ]) {
      expect(card).toContain(said);
    }
  });
});
