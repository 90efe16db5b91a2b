// Reverse mode over the graph: what it returns, where it stops, and how it composes. Each operator's rule is tested by describeBackend.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  abs,
  add,
  argmax,
  createRng,
  crossEntropy,
  detach,
  div,
  exp,
  grad,
  klDivergence,
  less,
  logSoftmax,
  matmul,
  mean,
  mul,
  neg,
  reshape,
  rmsNorm,
  round,
  sigmoid,
  silu,
  slice,
  softmax,
  square,
  straightThrough,
  sub,
  sum,
  type Tensor,
  tanh,
  tensor,
  transpose,
  where,
} from '../src/index.js';
import { interpret } from './interpret.js';

const leaf = (seed: number, ...shape: number[]): Tensor => tensor(createRng(seed).normal(shape.reduce((a, b) => a * b, 1)), shape);
const value = async (t: Tensor): Promise<number[]> => [...(await interpret(t))[0]];

/** d loss / d x by central differences; steps are powers of two and x has few digits, so that x ± h is exact. */
async function finiteDifferences(loss: (x: Tensor) => Tensor, x: Tensor, h = 2 ** -8): Promise<number[]> {
  const [data] = await interpret(x);
  const slopes: number[] = [];
  for (let i = 0; i < data.length; i++) {
    const moved = (by: number): Tensor =>
      tensor(
        Float32Array.from(data, (v, j) => (i === j ? v + by : v)),
        x.shape,
      );
    const [[plus], [minus]] = await interpret(loss(moved(h)), loss(moved(-h)));
    slopes.push((plus - minus) / (2 * h));
  }
  return slopes;
}

const coarse = (t: Float32Array): Float32Array => t.map((v) => Math.round(v * 1024) / 1024);

describe('grad', () => {
  it('is of the shape of what it is asked for, and zero where the loss does not depend on it', async () => {
    const [x, y] = [leaf(1, 2, 3), leaf(2, 4)];
    const [dx, dy] = grad(sum(square(x)), [x, y]);
    expect([dx.shape, dy.shape]).toEqual([[2, 3], [4]]);
    expect(await value(dx)).toEqual((await value(x)).map((v) => 2 * v));
    expect(await value(dy)).toEqual([0, 0, 0, 0]);
  });

  it('of the loss itself is 1, and answers repeat for a tensor that is asked for twice', async () => {
    const loss = mean(square(leaf(1, 3)));
    const [one, again] = grad(loss, [loss, loss]);
    expect([await value(one), await value(again)]).toEqual([[1], [1]]);
  });

  it('adds over all uses of a tensor', async () => {
    const x = tensor([3]);
    const y = mul(x, x);
    // x⁴ + x² + 2x at 3.
    const [dx, dy] = grad(add(add(mul(y, y), y), mul(2, x)), [x, y]);
    expect(await value(dx)).toEqual([4 * 27 + 2 * 3 + 2]);
    expect(await value(dy)).toEqual([2 * 9 + 1]);
  });

  it('gives the gradient of a node inside the graph', async () => {
    const x = tensor([0.5, -1]);
    const hidden = tanh(x);
    const [dHidden] = grad(sum(mul(hidden, tensor([2, 3]))), [hidden]);
    expect(await value(dHidden)).toEqual([2, 3]);
  });

  it('stops at detach, passes a straight-through rounding whole', async () => {
    const x = tensor([0.3, 1.7]);
    const [stopped] = grad(sum(mul(detach(x), x)), [x]);
    expect(await value(stopped)).toEqual(await value(x));
    const [through] = grad(sum(mul(straightThrough(round(x), x), tensor([5, 7]))), [x]);
    expect(await value(through)).toEqual([5, 7]);
    const [flat] = grad(sum(round(x)), [x]);
    expect(await value(flat)).toEqual([0, 0]);
  });

  it('throws where the path to what is wanted is not differentiable, and only there', async () => {
    const x = leaf(1, 2, 3);
    expect(() => grad(sum(argmax(x)), [x])).toThrow(
      expect.objectContaining({ code: 'GRAD_UNDEFINED', message: expect.stringMatching(/argmax.*detach/) }),
    );
    const weight = leaf(2, 2, 3);
    const chosen = where(less(x, 0), weight, 0);
    expect(await value(grad(sum(chosen), [weight])[0])).toEqual((await value(x)).map((v) => (v < 0 ? 1 : 0)));
  });

  it('needs a loss of one element, of any rank', async () => {
    const x = leaf(1, 2);
    expect(() => grad(square(x), [x])).toThrow(expect.objectContaining({ code: 'GRAD_SCALAR', message: expect.stringContaining('[2]') }));
    expect(await value(grad(reshape(sum(x), [1, 1]), [x])[0])).toEqual([1, 1]);
  });

  it('survives graphs deeper than the call stack', async () => {
    const x = tensor([1]);
    let y: Tensor = x;
    for (let i = 0; i < 20_000; i++) y = add(y, x);
    expect(await value(grad(y, [x])[0])).toEqual([20_001]);
  });

  it('is itself differentiable, through composites too', async () => {
    const x = tensor(coarse(createRng(4).normal(4)), [1, 4]);
    const slope = (at: Tensor): Tensor =>
      sum(mul(grad(mean(square(silu(rmsNorm(at, undefined, { epsilon: 1e-3 })))), [at])[0], tensor([1, -2, 3, 0.5])));
    const [second] = grad(slope(x), [x]);
    const [actual, expected] = [await value(second), await finiteDifferences(slope, x)];
    for (const [i, g] of actual.entries()) expect(g).toBeCloseTo(expected[i], 3);
  });

  it('agrees with finite differences on random programs', async () => {
    const unary = [
      tanh,
      sigmoid,
      (t: Tensor) => exp(mul(t, 0.3)),
      neg,
      square,
      softmax,
      logSoftmax,
      (t: Tensor) => transpose(t),
      (t: Tensor) => reshape(t, [3, 3]),
      abs,
    ] as const;
    const binary = [
      add,
      sub,
      mul,
      (a: Tensor, b: Tensor) => div(a, add(square(b), 1)),
      matmul,
      (a: Tensor, b: Tensor) => add(a, slice(b, 0, 1, 2)),
    ] as const;
    const instruction = fc.tuple(fc.nat(unary.length + binary.length - 1), fc.nat(1000), fc.nat(1000));
    const program = fc.array(instruction, { minLength: 1, maxLength: 7 });
    await fc.assert(
      fc.asyncProperty(program, fc.nat(1000), async (instructions, seed) => {
        const x = tensor(coarse(createRng(seed).normal(9)), [3, 3]);
        const loss = (at: Tensor): Tensor => {
          const values = [at, leaf(77, 3, 3)];
          for (const [op, a, b] of instructions) {
            const first = values[values.length - 1 - (a % Math.min(2, values.length))];
            values.push(op < unary.length ? unary[op](first) : binary[op - unary.length](first, values[b % values.length]));
          }
          return mean(tanh(mul(values[values.length - 1], 0.5)));
        };
        const [actual, expected] = [await value(grad(loss(x), [x])[0]), await finiteDifferences(loss, x, 2 ** -10)];
        for (const [i, g] of actual.entries()) expect(Math.abs(g - expected[i])).toBeLessThan(2e-3 * (1 + Math.abs(g)));
      }),
      { numRuns: 60, seed: 11 },
    );
  });

  it('of a cross entropy sums to zero over the vocabulary', async () => {
    const logits = leaf(5, 4, 7);
    const [g] = await interpret(grad(mean(crossEntropy(logits, tensor(Int32Array.of(0, 6, 3, 3)))), [logits])[0]);
    for (let row = 0; row < 4; row++) expect(g.subarray(row * 7, row * 7 + 7).reduce((a, b) => a + b, 0)).toBeCloseTo(0, 12);
  });

  it('of a divergence is what its logarithms give, for both distributions', async () => {
    const [p, q] = [leaf(8, 4, 7), leaf(9, 4, 7)];
    const rows = leaf(10, 4);
    const byDefinition = sum(mul(exp(logSoftmax(p)), sub(logSoftmax(p), logSoftmax(q))), [-1]);
    const results = (divergence: Tensor): Tensor[] => [divergence, ...grad(sum(mul(divergence, rows)), [p, q])];
    const [found, expected] = [await interpret(...results(klDivergence(p, q))), await interpret(...results(byDefinition))];
    for (const [i, values] of found.entries()) for (const [j, value] of values.entries()) expect(value).toBeCloseTo(expected[i][j], 12);
    expect(() => klDivergence(p, leaf(9, 4, 6))).toThrow(expect.objectContaining({ code: 'SHAPE_LOGITS' }));
  });
});
