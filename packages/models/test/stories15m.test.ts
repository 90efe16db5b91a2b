// A real pretrained model: what stories15M writes when it always takes the most probable token.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createRng } from '@lowbit/core';
import { openCheckpoint } from '@lowbit/formats';
import { expect, it } from 'vitest';
import { generate, loadModel } from '../src/index.js';

const data = process.env.LOWBIT_TEST_DATA;
const directory = join(data ?? '', 'models', 'stories15M');

/** Tokens as text; enough of SentencePiece for this vocabulary. */
async function detokenizer(): Promise<(tokens: Int32Array) => string> {
  const { model } = JSON.parse(await readFile(join(directory, 'tokenizer.json'), 'utf8')) as { model: { vocab: Record<string, number> } };
  const pieces = new Map(Object.entries(model.vocab).map(([piece, id]) => [id, piece === '<0x0A>' ? '\n' : piece.replaceAll('▁', ' ')]));
  return (tokens) => Array.from(tokens, (token) => pieces.get(token)).join('');
}

it.skipIf(!data)('stories15M tells its story, the same each time (skipped unless LOWBIT_TEST_DATA names the data folder)', async () => {
  const backend = await createOnnxBackend();
  const model = await loadModel(await openCheckpoint(directory));
  const text = await detokenizer();
  const request = { prompts: [Int32Array.of(1)], maxTokens: 51 };
  const [tokens] = await generate(model, backend, request);
  expect(text(tokens)).toBe(
    ' Once upon a time, there was a little girl named Lily. She loved to play outside in the sunshine. ' +
      'One day, she saw a big, red ball in the sky. It was the sun! She thought it was so pretty.',
  );
  expect(await generate(model, backend, request)).toEqual([tokens]);

  const sampled = { prompts: [Int32Array.of(1), Int32Array.of(1)], maxTokens: 30, temperature: 1, topP: 0.95, rng: createRng(1) };
  const stories = await generate(model, backend, sampled);
  expect(await generate(model, backend, sampled)).toEqual(stories);
  expect(stories[0]).not.toEqual(stories[1]);
  await backend.dispose();
});
