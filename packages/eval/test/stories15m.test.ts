// Reproduces the figure of an independent implementation on a real model. LOWBIT_TEST_DATA names a folder with models/stories15M and text/tinystories-valid.txt.
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { loadTokenizer, readTextFile } from '@lowbit/data';
import { openCheckpoint } from '@lowbit/formats';
import { loadModel } from '@lowbit/models';
import { describe, expect, it } from 'vitest';
import { textEvaluator, windowsByProtocol } from '../src/index.js';

const data = process.env.LOWBIT_TEST_DATA;

describe.skipIf(!data)('stories15M (skipped unless LOWBIT_TEST_DATA names the data folder)', () => {
  it('reaches perplexity 3.26 over the first 9,945 scored tokens of TinyStories’ validation text', async () => {
    const directory = join(data!, 'models/stories15M');
    const [model, tokenizer] = [await loadModel(await openCheckpoint(directory)), await loadTokenizer(directory)];
    const corpus = await readTextFile(join(data!, 'text/tinystories-valid.txt'), { rule: /\n\n(?=Once|One day)/ });
    const windows = windowsByProtocol('window-256', corpus, tokenizer, { limit: 39 });
    const backend = await createOnnxBackend();
    try {
      const scores = await textEvaluator(windows).evaluate(model, { backend, reference: model });
      expect(scores.map(({ evaluator, samples }) => [evaluator, samples])).toEqual(
        ['perplexity', 'kl', 'top1-agreement', 'loss-gap'].map((name) => [name, 9945]),
      );
      const [perplexity, kl, agreement] = scores;
      expect(perplexity.value).toBeGreaterThan(3.255);
      expect(perplexity.value).toBeLessThan(3.265);
      expect(perplexity.stderr / perplexity.value).toBeLessThan(0.05);
      expect(kl.value).toBe(0);
      expect(agreement.value).toBe(1);
    } finally {
      await backend.dispose();
    }
  });
});
