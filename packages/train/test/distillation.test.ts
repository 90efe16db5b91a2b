// Distances to a teacher: what float64 gives from the logits, with their gradients, on what counts and nothing else.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, DenseLinear, type Model, readFloats, tensor } from '@lowbit/core';
import { createToyModel } from '@lowbit/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Distance,
  type DistillationRequest,
  distances,
  distillationLoss,
  modelGradients,
  modelLoss,
  teacherConfidence,
  type WindowBatch,
  windowBatches,
  windowLoss,
} from '../src/index.js';

const backend = createReferenceBackend();
const [WINDOWS, LENGTH, VOCABULARY] = [3, 5, 16];
const sizes = { vocabularySize: VOCABULARY, hiddenSize: 16, innerSize: 16, blockCount: 1 } as const;

/** A head with a bias that shifts all logits alike, and a gradient that sums those of the logits. */
function biased(model: Model, value = 0): Model {
  const bias = tensor(new Float32Array(VOCABULARY).fill(value), [VOCABULARY]);
  return model.with({ head: new DenseLinear(model.head.effectiveWeight(), bias) });
}

const teacher = biased(createToyModel({ ...sizes, seed: 1 }));
const student = biased(createToyModel({ ...sizes, seed: 2 }));
const ids = Int32Array.from(createRng(3).integers(WINDOWS * LENGTH, VOCABULARY));
const batch: WindowBatch = { tokens: tensor(ids, [WINDOWS, LENGTH]), weights: [0.5, 0.3, 0.2] };

async function lossOf(own: Model, request: Partial<DistillationRequest>, part = batch, positionsAtOnce?: number): Promise<number> {
  const loss = await distillationLoss({ backend, teacher, distance: 'kl', ...request })(part);
  return (await modelLoss({ backend, model: own, tokens: part.tokens, lossOf: loss, positionsAtOnce })).loss;
}

async function logitsOf(model: Model): Promise<Float64Array> {
  return backend.float64(model.forward(batch.tokens));
}

type Row = readonly number[];

function softmaxOf(logits: Row): number[] {
  const largest = Math.max(...logits);
  const powers = logits.map((x) => Math.exp(x - largest));
  const total = powers.reduce((a, b) => a + b);
  return powers.map((p) => p / total);
}

const kl = (p: Row, q: Row): number => p.reduce((total, x, i) => total + x * Math.log(x / q[i]), 0);
const mixed = (p: Row, q: Row): number[] => p.map((x, i) => (x + q[i]) / 2);

/** At one position, from the teacher's probabilities and the student's. */
const expected: Record<Exclude<Distance, 'hidden'>, (t: Row, s: Row) => number> = {
  kl: (t, s) => kl(t, s),
  'reverse-kl': (t, s) => kl(s, t),
  cakld: (t, s) => 0.3 * kl(s, t) + 0.7 * kl(t, s),
  jsd: (t, s) => kl(t, mixed(t, s)) / 2 + kl(s, mixed(t, s)) / 2,
};
const beta = 0.3;
const divergences = Object.entries(expected) as [Exclude<Distance, 'hidden'>, (t: Row, s: Row) => number][];

const rowOf = (logits: Float64Array, position: number): number[] =>
  Array.from(logits.subarray(position * VOCABULARY, (position + 1) * VOCABULARY));
const weightOf = (position: number): number => batch.weights[Math.floor(position / LENGTH)] / LENGTH;
const positions = Array.from({ length: WINDOWS * LENGTH }, (_, i) => i);

describe('distillationLoss', () => {
  it.each(divergences)('%s is the mean over tokens of what float64 gives', async (distance, at) => {
    const [t, s] = [await logitsOf(teacher), await logitsOf(student)];
    const mean = positions.reduce((total, i) => total + weightOf(i) * at(softmaxOf(rowOf(t, i)), softmaxOf(rowOf(s, i))), 0);
    expect(mean).toBeGreaterThan(0.01);
    expect(await lossOf(student, { distance, beta })).toBeCloseTo(mean, 5);
  });

  it.each(divergences)('the gradient of %s is that of finite differences in float64', async (distance, at) => {
    const lossOf = await distillationLoss({ backend, teacher, distance, beta })(batch);
    const parameters = new Map([['lm_head.bias', (student.head as DenseLinear).bias as NonNullable<DenseLinear['bias']>]]);
    const { gradients } = await modelGradients({ backend, model: student, tokens: batch.tokens, lossOf, parameters });
    const [found] = await Promise.all([...gradients.values()].map(readFloats));
    const [t, s] = [await logitsOf(teacher), await logitsOf(student)];
    const step = 1e-5;
    for (let v = 0; v < VOCABULARY; v++) {
      const moved = (by: number): number =>
        positions.reduce((total, i) => {
          const logits = rowOf(s, i).map((x, j) => (j === v ? x + by : x));
          return total + weightOf(i) * at(softmaxOf(rowOf(t, i)), softmaxOf(logits));
        }, 0);
      expect(found[v], `token ${v}`).toBeCloseTo((moved(step) - moved(-step)) / (2 * step), 5);
    }
  });

  it('hidden is the mean square error after the last norm', async () => {
    const hiddenOf = async (model: Model): Promise<Float64Array> => {
      let x = model.embedding.forward(batch.tokens);
      for (const block of model.blocks) x = block.forward(x);
      return backend.float64(model.norm.forward(x));
    };
    const [t, s] = [await hiddenOf(teacher), await hiddenOf(student)];
    const width = t.length / positions.length;
    const mean = t.reduce((total, x, i) => total + (weightOf(Math.floor(i / width)) * (x - s[i]) ** 2) / width, 0);
    expect(await lossOf(student, { distance: 'hidden' })).toBeCloseTo(mean, 5);
  });

  it('adds a share of the cross-entropy of the next token', async () => {
    const s = await logitsOf(student);
    const ce = positions
      .filter((i) => i % LENGTH < LENGTH - 1)
      .reduce((total, i) => {
        const weight = batch.weights[Math.floor(i / LENGTH)] / (LENGTH - 1);
        return total - weight * Math.log(softmaxOf(rowOf(s, i))[ids[i + 1]]);
      }, 0);
    for (const distance of distances) {
      const [alone, both] = [await lossOf(student, { distance }), await lossOf(student, { distance, lambdaCe: 0.4 })];
      expect(both - alone, distance).toBeCloseTo(0.4 * ce, 5);
    }
  });

  it('is 0 for equal logits, equal up to a constant, and more than 0 for others', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...divergences.map(([name]) => name)),
        fc.integer({ min: -20, max: 20 }),
        async (distance, shift) => {
          expect(Math.abs(await lossOf(biased(teacher, shift), { distance, beta }))).toBeLessThan(1e-6);
        },
      ),
      { numRuns: 12 },
    );
    for (const distance of distances) expect(await lossOf(student, { distance, beta }), distance).toBeGreaterThan(1e-3);
  });

  it('has no gradient, not even a rounding error, where model and teacher are the same', async () => {
    const parameters = new Map([...['weight', 'bias']].map((name) => [`lm_head.${name}`, teacher.head.state().tensors[name]]));
    for (const distance of ['kl', 'reverse-kl', 'cakld', 'hidden'] as const) {
      const lossOf = await distillationLoss({ backend, teacher, distance })(batch);
      const { gradients } = await modelGradients({ backend, model: teacher, tokens: batch.tokens, lossOf, parameters });
      for (const gradient of gradients.values())
        expect(
          (await readFloats(gradient)).every((x) => x === 0),
          distance,
        ).toBe(true);
    }
  });

  it('cakld is one of the two divergences at the ends of β', async () => {
    expect(await lossOf(student, { distance: 'cakld', beta: 0 })).toBe(await lossOf(student, { distance: 'kl' }));
    expect(await lossOf(student, { distance: 'cakld', beta: 1 })).toBe(await lossOf(student, { distance: 'reverse-kl' }));
  });

  it('does not see windows that fill up a batch', async () => {
    const half = { tokens: batch.tokens, weights: [0.5, 0.5, 0] };
    const other = {
      ...half,
      tokens: tensor(
        ids.map((id, i) => (i < 2 * LENGTH ? id : (id + 1) % VOCABULARY)),
        [WINDOWS, LENGTH],
      ),
    };
    for (const distance of distances) {
      const found = await lossOf(student, { distance, lambdaCe: 1 }, half);
      expect(await lossOf(student, { distance, lambdaCe: 1 }, other), distance).toBe(found);
    }
  });

  it('is the same, whatever is computed at one time and however windows come in batches', async () => {
    const windows = { tokens: ids, count: WINDOWS, length: LENGTH };
    for (const distance of distances) {
      const request = { backend, teacher, distance, beta, lambdaCe: 0.2 };
      const whole = await windowLoss({ backend, model: student, lossOf: distillationLoss(request) }).value(new Map(), batch);
      const single = windowLoss({ backend, model: student, lossOf: distillationLoss(request), windowsAtOnce: 1 });
      expect(await single.value(new Map(), batch), distance).toBeCloseTo(whole, 5);
      expect(await lossOf(student, request, batch, 4), distance).toBeCloseTo(whole, 5);
      const means: number[] = [];
      for (const size of [1, 2, 3]) {
        const batches = windowBatches(windows, [0, 1, 2], size);
        let total = 0;
        for (let i = 0; i < batches.length; i++) total += (await lossOf(student, request, await batches.at(i))) / batches.length;
        means.push(total);
      }
      for (const mean of means) expect(mean, distance).toBeCloseTo(means[0], 5);
    }
  });

  it("runs the teacher's blocks once for windows that come again, and remembers what they gave", async () => {
    const one = createReferenceBackend();
    const lossAt = distillationLoss({ backend: one, teacher, distance: 'kl' });
    const valueOf = async (part: WindowBatch): Promise<number> =>
      (await modelLoss({ backend, model: student, tokens: part.tokens, lossOf: await lossAt(part) })).loss;
    const first = await valueOf(batch);
    const { evaluations } = one.statistics;
    const again = { ...batch, tokens: tensor(ids.slice(), [WINDOWS, LENGTH]) };
    expect(await valueOf(again)).toBe(first);
    expect(one.statistics.evaluations).toBe(evaluations);
    const others = { ...batch, tokens: tensor(ids.toReversed(), [WINDOWS, LENGTH]) };
    expect(await valueOf(others)).toBe(await lossOf(student, {}, others));
    expect(one.statistics.evaluations).toBeGreaterThan(evaluations);
  });

  it('does not compare hidden states of two widths', async () => {
    const narrow = createToyModel({ ...sizes, hiddenSize: 8, seed: 2 });
    await expect(lossOf(narrow, { distance: 'hidden' })).rejects.toMatchObject({ code: 'DISTILLATION_WIDTH' });
    expect(await lossOf(narrow, { distance: 'kl' })).toBeGreaterThan(0);
  });
});

describe('teacherConfidence', () => {
  it('is the mean of the largest probabilities, over ten batches at most', async () => {
    const t = await logitsOf(teacher);
    const largest = positions.map((i) => Math.max(...softmaxOf(rowOf(t, i))));
    const mean = positions.reduce((total, i) => total + largest[i] / positions.length, 0);
    const windows = { tokens: ids, count: WINDOWS, length: LENGTH };
    expect(await teacherConfidence(backend, teacher, windowBatches(windows, [0, 1, 2], 2))).toBeCloseTo(mean, 5);
    const ofFirst = largest.slice(0, LENGTH).reduce((total, p) => total + p / LENGTH, 0);
    const many = windowBatches(windows, [...new Array<number>(10).fill(0), 1, 2], 1);
    expect(await teacherConfidence(backend, teacher, many)).toBeCloseTo(ofFirst, 5);
  });
});
