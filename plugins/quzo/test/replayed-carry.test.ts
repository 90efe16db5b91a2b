// Error feedback whose carry is rebuilt from the log: what it equals, and what it forgets.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { quantize } from '@lowbit/pipeline';
import { rtn } from '@lowbit/rtn';
import { createToyModel } from '@lowbit/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createDraws } from '../src/direction/keys.js';
import type { Update } from '../src/hooks.js';
import { openRun, planOf, type QuzoInput, quzo, quzoOptions, type Run } from '../src/index.js';
import { createScratch } from '../src/perturbation/scratch.js';
import { createSlots } from '../src/update/slots.js';
import { type LoggedStep, type Past, takeStep } from '../src/update/take-step.js';
import { updaterOf } from '../src/update/updater.js';
import { hooksFor, parameterOf } from './statistics-oracle.js';

const EPSILON = 0.5;

/** Takes steps of one tensor, whose carry is kept, or rebuilt from a past; and what its updater saw at the last one. */
function side(values: Uint8Array, maxCode: number, decay: number, past?: Past) {
  const parameter = { ...parameterOf({ size: values.length, epsilon: EPSILON }), maxCode };
  const trained = { parameter, values, layout: parameter.shape, slots: createSlots(values.length), fillMagnitudes: () => {} };
  const update = updaterOf({ rounding: 'error-feedback', carryDecay: decay, carry: 'float32', weightDecay: 0 });
  let [carry, gradient]: [readonly number[], Float32Array] = [[], new Float32Array()];
  const watched = (one: Update) => {
    [carry, gradient] = [[...one.slots.float32('carry')], one.gradient.slice()];
    return update(one);
  };
  const hooks = { ...hooksFor({ estimator: 'rge1', distribution: 'gaussian' }), updater: watched };
  const request = { trained: { parameters: [trained] }, hooks, epsilon: EPSILON, scratch: createScratch(), past };
  return { take: (step: LoggedStep) => takeStep({ ...step, ...request }), seen: () => ({ carry, gradient }) };
}

const draws = createDraws(9);
const logged = (steps: readonly Omit<LoggedStep, 'draws'>[]): LoggedStep[] =>
  steps.map((step, i) => ({ ...step, draws: draws.at(i + 1, 0) }));

/** Two queries a step. */
const courses = (largest: number) =>
  fc
    .array(
      fc.record({
        mu: fc.array(fc.float({ min: -largest, max: largest, noNaN: true }), { minLength: 2, maxLength: 2 }),
        rateShare: fc.float({ min: 0, max: 1, noNaN: true }),
      }),
      { minLength: 1, maxLength: 12 },
    )
    .map(logged);

const decays = fc.constantFrom(1, 0.9, 0.5);

describe('a carry that is rebuilt', () => {
  it('is the one that is kept, to the bit, while no step is cut', () => {
    fc.assert(
      fc.property(courses(1), decays, (course, decay) => {
        const [one, other] = [new Uint8Array(64).fill(128), new Uint8Array(64).fill(128)];
        const steps: LoggedStep[] = [];
        const [kept, rebuilt] = [side(one, 255, decay), side(other, 255, decay, { steps, decay })];
        for (const step of course) {
          const applied = kept.take(step);
          expect(applied.clamped).toBe(0);
          expect(rebuilt.take(step)).toEqual(applied);
          expect(rebuilt.seen().carry).toEqual(kept.seen().carry);
          expect(other).toEqual(one);
          steps.push(step);
        }
      }),
    );
  });

  it('is the same of a tensor of several tiles', () => {
    const sizes = 2 ** 16 + 1001;
    const [one, other] = [new Uint8Array(sizes).fill(128), new Uint8Array(sizes).fill(128)];
    const steps: LoggedStep[] = [];
    const [kept, rebuilt] = [side(one, 255, 0.9), side(other, 255, 0.9, { steps, decay: 0.9 })];
    const course = logged([0.3, -0.2, 0.25].map((slope) => ({ mu: [slope], rateShare: 1 })));
    for (const step of course) {
      expect(rebuilt.take(step)).toEqual(kept.take(step));
      steps.push(step);
    }
    expect(other).toEqual(one);
    expect(one.some((code) => code !== 128)).toBe(true);
    // What the updater saw last was the last tile.
    expect(rebuilt.seen().carry).toEqual(kept.seen().carry.slice(2 ** 16));
  });

  it('is what the steps of the log make of none, wherever the codes stand', () => {
    fc.assert(
      fc.property(courses(20), decays, fc.integer({ min: 1, max: 15 }), (course, decay, maxCode) => {
        const steps: LoggedStep[] = [];
        const { take, seen } = side(new Uint8Array(16), maxCode, decay, { steps, decay });
        const carry = new Float32Array(16);
        for (const step of course) {
          take(step);
          expect(seen().carry).toEqual([...carry]);
          for (const [i, slope] of seen().gradient.entries()) {
            const wanted = Math.fround(decay * carry[i] - step.rateShare * slope);
            // To the nearest whole number, half to even, by the digits of a float64; the longest step there is leads from end to end.
            const rest = wanted - (wanted + 1.5 * 2 ** 52 - 1.5 * 2 ** 52);
            carry[i] = Math.abs(wanted) > maxCode + 0.5 ? 0.5 * Math.sign(wanted) : rest;
          }
          steps.push(step);
        }
      }),
    );
  });
});

const { model } = await quantize({
  model: createToyModel({ seed: 3, blockCount: 1 }),
  backend: createReferenceBackend(),
  recipe: [rtn({ bits: 8, groupSize: 16 })],
});

async function runWith(options: QuzoInput): Promise<Run> {
  const { options: whole } = quzo({ schedule: 'constant', learningRate: 1, ...options });
  return openRun(model, { format: 'lowbit-quzo', version: 1, runSeed: 5, options: { ...whole }, ...planOf(model, () => whole) });
}

const codesOf = ({ trained }: Run): number[][] => trained.parameters.map(({ values }) => [...values]);
/** Of directions of one code, below half of which nothing moves. */
const slopes = [0.3, -0.2, 0.45, 0.4, -0.35, 0.25, 0.3];
const recordOf = (step: number) => ({ step, mu: [slopes[step % slopes.length]] });

describe('a run whose carry is rebuilt', () => {
  it('takes the steps of one whose carry is kept, while its window holds them all', async () => {
    const [kept, rebuilt] = [await runWith({ carryDecay: 0.9 }), await runWith({ carry: 'replay', carryWindow: 5 })];
    // Every group of a quantized model has codes at the ends; here none has.
    for (const { trained } of [kept, rebuilt]) for (const { values } of trained.parameters) values.fill(128);
    let changed = 0;
    for (let step = 1; step <= 6; step++) {
      const applied = kept.apply(recordOf(step));
      expect(rebuilt.apply(recordOf(step))).toEqual(applied);
      changed += applied.changed;
    }
    expect(changed).toBeGreaterThan(0);
    expect(codesOf(rebuilt)).toEqual(codesOf(kept));
  });

  it('looks back as many steps as its window has, those without derivatives not among them', async () => {
    const [long, short] = [await runWith({ carry: 'replay', carryWindow: 2 }), await runWith({ carry: 'replay', carryWindow: 2 })];
    for (let step = 1; step <= 5; step++) long.apply(recordOf(step));
    short.apply(recordOf(4));
    short.apply(recordOf(5));
    expect(short.apply({ step: 6, mu: [] })).toEqual({ changed: 0, clamped: 0 });
    // The same codes and the same two steps before: the same step.
    for (const [i, codes] of codesOf(long).entries()) short.trained.parameters[i].values.set(codes);
    expect(short.apply(recordOf(7)).changed).toBe(long.apply(recordOf(7)).changed);
    expect(codesOf(short)).toEqual(codesOf(long));
    // A third step would have made another.
    const wide = await runWith({ carry: 'replay', carryWindow: 3 });
    for (let step = 1; step <= 5; step++) wide.apply(recordOf(step));
    for (const [i, codes] of codesOf(wide).entries()) wide.trained.parameters[i].values.set(codes);
    wide.apply(recordOf(7));
    expect(codesOf(wide)).not.toEqual(codesOf(long));
  });

  it('has the decay of quantized evolution strategies unless it is told another', () => {
    expect(quzoOptions.parse({}).carryDecay).toBe(1);
    expect(quzoOptions.parse({ carry: 'replay' })).toMatchObject({ carryDecay: 0.9, carryWindow: 50 });
    expect(quzoOptions.parse({ carry: 'replay', carryDecay: 1 }).carryDecay).toBe(1);
    const whole = quzoOptions.parse({ preset: 'qes-int4', carry: 'replay', carryWindow: 9 });
    expect(quzoOptions.parse(whole)).toEqual(whole);
  });

  it('is refused where the log does not say which codes a step left out', () => {
    for (const options of [{ sparsity: 0.5 }, { variant: 'sparse-mezo', sparsity: 0 }] as const) {
      expect(() => quzo({ carry: 'replay', ...options })).toThrow(/sparsity: 0/);
      expect(() => quzo({ carry: 'replay', rounding: 'sr', ...options })).not.toThrow();
      expect(() => quzo({ carry: 'replay', parameters: 'scales', ...options })).not.toThrow();
    }
  });
});
