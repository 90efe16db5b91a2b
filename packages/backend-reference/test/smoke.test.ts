import { attention, createRng, grad, mean, read, rmsNorm, square, sum, tensor, mul, crossEntropy, linear } from '@lowbit/core';
import { expect, it } from 'vitest';
import { createReferenceBackend } from '../src/index.js';

const backend = createReferenceBackend();

it('differentiates attention and rmsNorm', async () => {
  const rng = createRng(1);
  const q = tensor(rng.at('q').normal(2 * 4 * 5 * 6), [2, 4, 5, 6]);
  const k = tensor(rng.at('k').normal(2 * 2 * 5 * 6), [2, 2, 5, 6]);
  const v = tensor(rng.at('v').normal(2 * 2 * 5 * 6), [2, 2, 5, 6]);
  const f = (kk: typeof k) => mean(square(rmsNorm(attention(q, kk, v), undefined, { epsilon: 1e-5 , size: 7})));
  const [g] = grad(f(k), [k]);
  const [dk] = await backend.evaluate([g]);
  const d = await read(dk);
  for (const i of [0, 13, 77]) {
    const plus = Float32Array.from(k.source.kind === 'leaf' ? k.source.data! : []);
    const minus = Float32Array.from(plus);
    plus[i] += 1 / 64; minus[i] -= 1 / 64;
    const p = (await backend.float64(f(tensor(plus, k.shape))))[0];
    const m = (await backend.float64(f(tensor(minus, k.shape))))[0];
    expect((p - m) * 32).toBeCloseTo(d[i], 4);
  }
});
