// Toy models and windows for these tests, and float64 logits of a model.

import type { ReferenceBackend } from '@lowbit/backend-reference';
import { createRng, DenseLinear, type Model, tensor } from '@lowbit/core';
import { corpusOf, cutWindows, type TokenWindows, type WindowRule } from '@lowbit/data';
import { createToyModel } from '@lowbit/testkit';

const VOCABULARY = 24;

export const toyModel = (seed = 1): Model =>
  createToyModel({ seed, vocabularySize: VOCABULARY, hiddenSize: 8, innerSize: 12, headCount: 2, keyValueHeadCount: 1, contextLength: 16 });

export function toyWindows(rule: WindowRule, tokens = 60): TokenWindows {
  const ids = createRng(5).integers(tokens, VOCABULARY);
  return cutWindows({ ids, corpus: corpusOf(['text'], { name: 'toy', split: 'held-out' }), documents: 1, bos: 'none' }, rule);
}

/** The model with noise on every weight of its blocks. */
export function disturbed(model: Model, deviation: number, seed = 9): Model {
  const rng = createRng(seed);
  return model.with({
    blocks: model.blocks.map((block) => {
      const linears = Object.entries(block.linears).map(([name, linear]) => {
        const { weight } = linear as DenseLinear;
        const noise = rng.at(block.path, name).normal(weight.size);
        const values = (weight.source as { data: Float32Array }).data;
        return [
          name,
          new DenseLinear(
            tensor(
              values.map((w, i) => w + deviation * noise[i]),
              weight.shape,
            ),
          ),
        ];
      });
      return block.with({ linears: Object.fromEntries(linears) });
    }),
  });
}

/** log softmax at each position of one window, in float64. */
export async function logProbabilities(backend: ReferenceBackend, model: Model, tokens: Int32Array): Promise<number[][]> {
  const logits = await backend.float64(model.forward(tensor(tokens, [1, tokens.length])));
  return Array.from(tokens, (_, position) => {
    const row = [...logits.subarray(position * VOCABULARY, (position + 1) * VOCABULARY)];
    const peak = Math.max(...row);
    const logSum = peak + Math.log(row.reduce((a, x) => a + Math.exp(x - peak), 0));
    return row.map((x) => x - logSum);
  });
}
