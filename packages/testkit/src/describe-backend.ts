// The contract of a backend as tests: every operator, every broadcast shape, every gradient, and how evaluation behaves.
import {
  add,
  type Backend,
  createRng,
  exp,
  grad,
  lazyTensor,
  matmul,
  mean,
  mul,
  ops,
  type ReferenceArray,
  read,
  square,
  sum,
  type Tensor,
  tensor,
} from '@lowbit/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { OpCase } from './op-case.js';
import { opCases } from './op-cases.js';

/** Evaluates in float64; `createReferenceBackend()` of @lowbit/backend-reference is one. */
export interface Float64Oracle {
  float64(x: Tensor): Promise<Float64Array>;
}

export interface DescribeBackendOptions {
  readonly oracle: Float64Oracle;
  /** Largest |difference| of float32 elements to the oracle, relative to 1 + |value|; others must be equal. Default: 2e-5. */
  readonly tolerance?: number;
}

/** Checks a backend against the oracle. Call it at the top level of a test file. */
export function describeBackend(
  name: string,
  create: () => Promise<Backend> | Backend,
  { oracle, tolerance = 2e-5 }: DescribeBackendOptions,
): void {
  describe(`backend ${name}`, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await create();
    });
    afterAll(() => backend.dispose());

    const expectEqual = async (actual: Tensor, expected: Float64Array, what: string): Promise<void> => {
      const values = await read(actual);
      expect(values.length, what).toBe(expected.length);
      for (let i = 0; i < expected.length; i++) {
        const allowed = actual.dtype === 'float32' ? tolerance * (1 + Math.abs(expected[i])) : 0;
        expect(Math.abs(values[i] - expected[i]), `${what}[${i}]: ${values[i]} against ${expected[i]}`).toBeLessThanOrEqual(allowed);
      }
    };

    describe('operators', () => {
      for (const operation of opCases(createRng(20))) {
        it(operation.name, async () => {
          const output = operation.build(...operation.inputs);
          const [actual] = await backend.evaluate([output]);
          expect(actual.shape).toEqual(output.shape);
          expect(actual.dtype).toBe(output.dtype);
          await expectEqual(actual, await oracle.float64(output), operation.name);
        });
      }
    });

    describe('gradients', () => {
      for (const operation of opCases(createRng(21)).filter(
        ({ isDifferentiable = true, inputs }) => isDifferentiable && inputs.length > 0,
      )) {
        it(operation.name, async () => {
          const loss = lossOf(operation);
          const gradients = grad(loss(operation.inputs), operation.inputs);
          const actual = await backend.evaluate(gradients);
          for (const [i, gradient] of gradients.entries()) {
            const expected = await oracle.float64(gradient);
            await expectEqual(actual[i], expected, `gradient ${i}`);
            await expectFiniteDifferences(oracle, loss, operation.inputs, i, expected);
          }
        });
      }
    });

    describe('evaluation', () => {
      const x = tensor([1, 2, 3, 4, 5, 6], [2, 3]);

      it('passes leaves through', async () => {
        const [same] = await backend.evaluate([x]);
        expect(same).toBe(x);
      });

      it('computes several results, repeated ones too', async () => {
        const y = square(x);
        const [a, b, c] = await backend.evaluate([y, sum(y), y]);
        expect(Array.from(await read(a))).toEqual([1, 4, 9, 16, 25, 36]);
        expect(Array.from(await read(b))).toEqual([91]);
        expect(Array.from(await read(c))).toEqual([1, 4, 9, 16, 25, 36]);
      });

      it('reads lazy leaves at each evaluation', async () => {
        let loads = 0;
        const lazy = lazyTensor([2], 'float32', async () => Float32Array.of(++loads, 1));
        const y = mul(lazy, 2);
        const [first] = await backend.evaluate([y]);
        const [second] = await backend.evaluate([y]);
        expect([(await read(first))[0], (await read(second))[0]]).toEqual([2, 4]);
      });

      it('takes views of larger buffers as leaves', async () => {
        const buffer = Float32Array.from({ length: 10 }, (_, i) => i);
        const [y] = await backend.evaluate([mul(tensor(buffer.subarray(4, 7)), 10)]);
        expect(Array.from(await read(y))).toEqual([40, 50, 60]);
      });

      it('compiles a structure once, whatever its leaves hold', async () => {
        const graph = (seed: number): Tensor =>
          mean(exp(matmul(tensor(createRng(seed).normal(6), [2, 3]), tensor(createRng(seed + 1).normal(6), [3, 2]))));
        await backend.evaluate([graph(0)]);
        const before = backend.statistics.compilations;
        await backend.evaluate([graph(10)]);
        await backend.evaluate([graph(20)]);
        expect(backend.statistics.compilations).toBe(before);
      });

      it('tells shared leaves from equal ones', async () => {
        const a = tensor([1, 2]);
        const b = tensor([3, 4]);
        const [same] = await backend.evaluate([add(a, a)]);
        const [different] = await backend.evaluate([add(a, b)]);
        expect(Array.from(await read(same))).toEqual([2, 4]);
        expect(Array.from(await read(different))).toEqual([4, 6]);
      });

      it('is refused after dispose, which frees once and leaves results to read', async () => {
        const other = await create();
        const [kept] = await other.evaluate([mul(x, 2)]);
        await other.dispose();
        await other.dispose();
        await expect(other.evaluate([mul(x, 3)])).rejects.toMatchObject({ code: 'BACKEND_DISPOSED' });
        expect(Array.from(await read(kept))).toEqual([2, 4, 6, 8, 10, 12]);
      });

      it('reuses released memory without touching what is still held', async () => {
        const [kept] = await backend.evaluate([mul(x, 2)]);
        const [released] = await backend.evaluate([mul(x, 3)]);
        const [next] = await backend.evaluate([mul(x, 4)], { release: [released] });
        const [after] = await backend.evaluate([mul(x, 5)]);
        expect(Array.from(await read(kept))).toEqual([2, 4, 6, 8, 10, 12]);
        expect(Array.from(await read(next))).toEqual([4, 8, 12, 16, 20, 24]);
        expect(Array.from(await read(after))).toEqual([5, 10, 15, 20, 25, 30]);
      });

      it('gives the same bytes twice', async () => {
        const big = tensor(createRng(3).normal(64 * 64), [64, 64]);
        const y = matmul(exp(big), big);
        const [first] = await backend.evaluate([y]);
        const [second] = await backend.evaluate([y]);
        expect(Buffer.compare(Buffer.from((await read(first)).buffer), Buffer.from((await read(second)).buffer))).toBe(0);
      });

      it('runs concurrent evaluations', async () => {
        const results = await Promise.all([1, 2, 3, 4].map((factor) => backend.evaluate([sum(mul(x, factor))])));
        const values = await Promise.all(results.map(([y]) => read(y)));
        expect(values.map((value) => value[0])).toEqual([21, 42, 63, 84]);
      });
    });

    it('covers every operator of the table', () => {
      const covered = new Set(opCases(createRng(0)).flatMap(({ covers }) => covers));
      expect(Object.keys(ops).filter((op) => !covered.has(op as keyof typeof ops))).toEqual([]);
    });
  });
}

/** A scalar that weights every output element differently, so that no gradient error cancels. */
function lossOf(operation: OpCase): (inputs: readonly Tensor[]) => Tensor {
  return (inputs) => {
    const output = operation.build(...inputs);
    const weights = tensor(createRng(99).uniform(output.size), output.shape);
    return sum(mul(output, weights));
  };
}

/** Central differences in float64 on a few elements of input `index`. Exact steps: powers of two around float32 values. */
async function expectFiniteDifferences(
  oracle: Float64Oracle,
  loss: (inputs: readonly Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  index: number,
  gradient: ReferenceArray['data'],
): Promise<void> {
  const step = 2 ** -12;
  const original = Float32Array.from(await read(inputs[index]));
  const elements = new Set([0, Math.floor(original.length / 2), original.length - 1]);
  for (const element of elements) {
    const at = async (sign: number): Promise<[number, number]> => {
      const moved = Float32Array.from(original);
      moved[element] += sign * step;
      const value = await oracle.float64(loss(inputs.map((input, i) => (i === index ? tensor(moved, input.shape) : input))));
      return [value[0], moved[element]];
    };
    const [[above, to], [below, from]] = [await at(1), await at(-1)];
    const difference = (above - below) / (to - from);
    expect(
      Math.abs(difference - gradient[element]),
      `finite difference at [${element}]: ${difference} against ${gradient[element]}`,
    ).toBeLessThan(2e-4 * (1 + Math.abs(difference)));
  }
}
