// Losses of tensors that are computed from what is trained: the gradients of one graph, and two programs for all units of one structure.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { add, type Backend, createRng, exp, grad, mul, readFloats, readNumber, square, sum, type Tensor, tensor } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type NamedTensors, type ParameterUnit, reparameterized, type StagedLoss } from '../src/index.js';

const rng = createRng(8);
const leaf = (name: string, shape: readonly number[] = [2, 3]): Tensor =>
  tensor(
    rng
      .at(name)
      .normal(2 * 3)
      .slice(
        0,
        shape.reduce((a, b) => a * b),
      ),
    shape,
  );
const at = (values: NamedTensors, name: string): Tensor => values.get(name) as Tensor;

/** Two tensors of the loss, 'x' and 'y' of a unit, from three parameters. */
const unit = (i: number, frozen = leaf(`frozen ${i}`)) => ({
  parameters: [`a${i}`, `b${i}`],
  expressions: (values: NamedTensors): NamedTensors =>
    new Map([
      [`x${i}`, mul(exp(at(values, `a${i}`)), at(values, `b${i}`))],
      [`y${i}`, add(mul(frozen, at(values, `b${i}`)), 1)],
    ]),
});

/** Σ weight · t² over the tensors that it is given. */
function squares(backend: Backend, names: readonly string[]): StagedLoss<number> & { readonly seen: string[][] } {
  const seen: string[][] = [];
  const total = (values: NamedTensors, batch: number): Tensor =>
    [...values.values()].map((t) => mul(sum(square(t)), batch)).reduce((a, b) => add(a, b));
  return {
    seen,
    async value(values, batch) {
      seen.push([...values.keys()]);
      return readNumber((await backend.evaluate([total(values, batch)]))[0]);
    },
    async gradients(values, batch) {
      expect([...values.values()].every((t) => t.isLeaf)).toBe(true);
      const loss = total(values, batch);
      const leaves = names.map((name) => at(values, name));
      const [value, ...gradients] = await backend.evaluate([loss, ...grad(loss, leaves)]);
      return { loss: await readNumber(value), gradients: new Map(names.map((name, i) => [name, gradients[i]])) };
    },
  };
}

const units = [unit(0), unit(1)];
const parameters = new Map(['a0', 'b0', 'c', 'a1', 'b1'].map((name) => [name, leaf(name)]));
const inner = ['c', 'x0', 'y0', 'x1', 'y1'];

describe('reparameterized', () => {
  it('gives the loss and the gradients of one graph, in the order of the parameters', async () => {
    const backend = createReferenceBackend();
    await fc.assert(
      fc.asyncProperty(fc.double({ min: 0.1, max: 3, noNaN: true }), async (batch) => {
        const loss = reparameterized(backend, squares(backend, inner), units);
        const whole = new Map([['c', at(parameters, 'c')], ...units.flatMap((one) => [...one.expressions(parameters)])]);
        const total = [...whole.values()].map((t) => mul(sum(square(t)), batch)).reduce((a, b) => add(a, b));
        const expected = await backend.evaluate([total, ...grad(total, [...parameters.values()])]);
        const found = await loss.gradients(parameters, batch, 1);
        expect(found.loss).toBeCloseTo(await readNumber(expected[0]), 3);
        expect(await loss.value(parameters, batch)).toBe(found.loss);
        expect([...found.gradients.keys()]).toEqual([...parameters.keys()]);
        for (const [i, [name, gradient]] of [...found.gradients].entries()) {
          const wanted = await readFloats(expected[1 + i]);
          for (const [j, x] of (await readFloats(gradient)).entries()) expect(x, name).toBeCloseTo(wanted[j], 3);
        }
      }),
      { numRuns: 10 },
    );
  });

  it('hands over what no unit reads as it is, and no parameter of a unit', async () => {
    const backend = createReferenceBackend();
    const loss = squares(backend, inner);
    await reparameterized(backend, loss, units).value(parameters, 1);
    expect(loss.seen).toEqual([inner]);
  });

  it('may name a tensor as the parameter that it comes from', async () => {
    const backend = createReferenceBackend();
    const start = leaf('start');
    const factor: ParameterUnit = { parameters: ['c'], expressions: (values) => new Map([['c', mul(start, at(values, 'c'))]]) };
    const { gradients } = await reparameterized(backend, squares(backend, ['c']), [factor]).gradients(new Map([['c', leaf('c')]]), 1, 1);
    const [s, c] = [await readFloats(start), await readFloats(leaf('c'))];
    for (const [i, x] of (await readFloats(at(gradients, 'c'))).entries()) expect(x).toBeCloseTo(2 * s[i] ** 2 * c[i], 4);
  });

  it('takes leaves that the host computes from the parameters, once a step, as constants', async () => {
    const backend = createReferenceBackend();
    let asked = 0;
    const scaled: ParameterUnit = {
      parameters: ['p'],
      async expressions(values) {
        asked++;
        const peak = (await readFloats(at(values, 'p'))).reduce((a, b) => Math.max(a, Math.abs(b)), 0);
        return new Map([['x', mul(at(values, 'p'), tensor(peak))]]);
      },
    };
    const p = leaf('p');
    const { gradients } = await reparameterized(backend, squares(backend, ['x']), [scaled]).gradients(new Map([['p', p]]), 1, 1);
    expect(asked).toBe(1);
    const values = await readFloats(p);
    const peak = Math.max(...values.map(Math.abs));
    for (const [i, x] of (await readFloats(at(gradients, 'p'))).entries()) expect(x).toBeCloseTo(2 * peak ** 2 * values[i], 3);
  });

  it('compiles two programs for all units, and gives back no memory that others hold', async () => {
    const backend = await createOnnxBackend({ threads: 1, spin: false });
    const frozen = leaf('kept');
    const many = [unit(0, frozen), unit(1, frozen)];
    const loss = reparameterized(backend, squares(backend, inner), many);
    const before = await Promise.all([...parameters.values(), frozen].map(async (t) => [...(await readFloats(t))]));
    await loss.gradients(parameters, 1, 1);
    const { compilations } = backend.statistics;
    // One more for the loss with its gradients, in either backend.
    expect(compilations).toBe(3);
    const [first, second] = [await loss.gradients(parameters, 1, 2), await loss.gradients(parameters, 1, 3)];
    expect(backend.statistics.compilations).toBe(3);
    for (const [name, gradient] of first.gradients)
      expect(await readFloats(gradient)).toEqual(await readFloats(at(second.gradients, name)));
    expect(await Promise.all([...parameters.values(), frozen].map(async (t) => [...(await readFloats(t))]))).toEqual(before);
    await backend.dispose();
  });

  it('is the loss itself without units', async () => {
    const backend = createReferenceBackend();
    const loss = squares(backend, ['c']);
    const only = new Map([['c', leaf('c')]]);
    expect((await reparameterized(backend, loss, []).gradients(only, 1, 1)).loss).toBe((await loss.gradients(only, 1, 1)).loss);
  });

  it('refuses a parameter of two units, and asks for one that is missing', async () => {
    const backend = createReferenceBackend();
    expect(() => reparameterized(backend, squares(backend, inner), [unit(0), unit(0)])).toThrow(
      expect.objectContaining({ code: 'TRAIN_PARAMETER' }),
    );
    const loss = reparameterized(backend, squares(backend, inner), units);
    await expect(loss.value(new Map([['c', leaf('c')]]), 1)).rejects.toMatchObject({ code: 'TRAIN_PARAMETER' });
  });
});
