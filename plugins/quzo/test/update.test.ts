// Updates: whole steps on the grid, what error feedback carries, and which roundings let small steps arrive.
import { packCodes, unpackCodes } from '@lowbit/quant';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createDraws } from '../src/direction/keys.js';
import type { Applied, ParameterKind } from '../src/hooks.js';
import { createSlots } from '../src/update/slots.js';
import { updaterOf } from '../src/update/updater.js';

type Rounding = Parameters<typeof updaterOf>[0]['rounding'];

interface Setting {
  readonly rounding?: Rounding;
  readonly carryDecay?: number;
  readonly carry?: 'float32' | '16-bit';
  readonly weightDecay?: number;
  readonly kind?: ParameterKind;
  readonly maxCode?: number;
}

/** An updater with its state: takes steps −η·ĝ on `values`. */
function stepper<T extends Uint8Array | Float32Array>(values: T, setting: Setting = {}) {
  const { rounding = 'error-feedback', carryDecay = 1, carry = 'float32', weightDecay = 0, kind = 'codes', maxCode = 15 } = setting;
  const update = updaterOf({ rounding, carryDecay, carry, weightDecay });
  const slots = createSlots(values.length);
  const settings = { epsilon: 1, learningRate: 1, perturbBits: 8, sparsity: 0 };
  const parameter = { name: 'w', kind, shape: [values.length], size: values.length, maxCode, settings };
  let step = 0;
  return {
    /** In codes. */
    carry: () => (carry === 'float32' ? [...slots.float32('carry')] : Array.from(slots.int16('carry'), (units) => units / 2 ** 15)),
    take: (gradient: readonly number[], learningRate = 1): Applied =>
      update({ parameter, values, gradient: Float32Array.from(gradient), learningRate, draws: createDraws(3).at(++step, 0), slots }),
  };
}

const steps = (largest: number) =>
  fc.array(fc.array(fc.float({ min: -largest, max: largest, noNaN: true }), { minLength: 4, maxLength: 4 }), {
    minLength: 1,
    maxLength: 30,
  });

describe.each(['float32', '16-bit'] as const)('error feedback with a carry in %s', (kept) => {
  const unit = 2 ** -15;
  /** To the nearest whole unit, half to even: by the digits of a float64 as large as 2^52 units. */
  const toUnits = (x: number): number => x + 1.5 * 2 ** 52 * unit - 1.5 * 2 ** 52 * unit;

  it('applies and carries exactly what was asked for, and carries at most half a code', () => {
    fc.assert(
      fc.property(steps(1), (gradients) => {
        // In the middle of 8 bits, so that no boundary is near.
        const codes = Uint8Array.of(100, 120, 128, 150);
        const { take, carry } = stepper(codes, { maxCode: 255, carry: kept });
        for (const gradient of gradients) {
          const [before, carried] = [[...codes], carry()];
          expect(take(gradient).clamped).toBe(0);
          for (const [i, now] of carry().entries()) {
            // Of 16 bits, the step is what its units can tell, and nothing is lost beside that.
            const wanted = kept === 'float32' ? Math.fround(carried[i] - gradient[i]) : toUnits(carried[i] - gradient[i]);
            expect(codes[i] - before[i] + now).toBe(wanted);
            expect(Math.abs(wanted - (carried[i] - gradient[i]))).toBeLessThanOrEqual(unit / 2);
            expect(Math.abs(now)).toBeLessThanOrEqual(0.5);
          }
        }
      }),
    );
  });

  it('has applied all that was ever asked for, but for half a code', () => {
    fc.assert(
      fc.property(steps(0.25), (gradients) => {
        const codes = Uint8Array.of(100, 120, 128, 150);
        const start = [...codes];
        const asked = [0, 0, 0, 0];
        const { take } = stepper(codes, { maxCode: 255, carry: kept });
        for (const gradient of gradients) {
          take(gradient, 0.7);
          for (const i of asked.keys()) asked[i] -= 0.7 * gradient[i];
        }
        for (const i of asked.keys())
          expect(Math.abs(codes[i] - start[i] - asked[i])).toBeLessThan(
            0.5 + 1e-5 + (kept === '16-bit' ? gradients.length * (unit / 2) : 0),
          );
      }),
    );
  });

  it('forgets what leads beyond the grid but for half a code, and counts it', () => {
    const codes = Uint8Array.of(15, 0, 14);
    const { take, carry } = stepper(codes, { carry: kept });
    expect(take([-3, 3, -3])).toEqual({ changed: 1, clamped: 3 });
    expect([...codes]).toEqual([15, 0, 15]);
    expect(carry()).toEqual([0.5, -0.5, 0.5]);
    // Half a code back is on the way at once.
    take([1.25, -1.25, 1.25]);
    expect([...codes]).toEqual([14, 1, 14]);
  });

  it('never moves by steps that are small against 1 − γ, and by any with γ = 1', () => {
    const [lasting, fading] = [Uint8Array.of(8), Uint8Array.of(8)];
    const [whole, part] = [stepper(lasting, { carry: kept }), stepper(fading, { carryDecay: 0.9, carry: kept })];
    for (let i = 0; i < 200; i++) {
      whole.take([0.04]);
      part.take([0.04]);
    }
    expect([...lasting]).toEqual([0]);
    expect([...fading]).toEqual([8]);
    // The carry has come to rest at step / (1 − γ).
    expect(part.carry()[0]).toBeCloseTo(-0.4, kept === 'float32' ? 5 : 3);
  });

  it('rounds half to even', () => {
    const codes = Uint8Array.of(8, 8, 8);
    stepper(codes, { carry: kept }).take([-0.5, -1.5, -2.5]);
    expect([...codes]).toEqual([8, 10, 10]);
  });
});

describe('a carry of 16 bits', () => {
  it('adds up steps of more than half a unit, and none of less', () => {
    const codes = Uint8Array.of(8, 8, 8, 8);
    const { take, carry } = stepper(codes, { carry: '16-bit' });
    for (let i = 0; i < 2 ** 15; i++) take([-0.51, -1, -0.49, 0.51].map((units) => units * 2 ** -15));
    expect([...codes]).toEqual([9, 9, 8, 7]);
    expect(carry()).toEqual([0, 0, 0, 0]);
  });

  it('leads where the other does, as far as its units tell, for steps that are whole units', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.integer({ min: -40000, max: 40000 }), { minLength: 4, maxLength: 4 }), { maxLength: 30 }),
        (taken) => {
          const [long, short] = [Uint8Array.of(0, 7, 15, 3), Uint8Array.of(0, 7, 15, 3)];
          const [one, other] = [stepper(long), stepper(short, { carry: '16-bit' })];
          for (const units of taken) {
            const gradient = units.map((count) => count * 2 ** -15);
            expect(other.take(gradient)).toEqual(one.take(gradient));
            expect([...short]).toEqual([...long]);
            expect(other.carry()).toEqual(one.carry());
          }
        },
      ),
    );
  });
});

describe('a step of less than half a code', () => {
  const after = (rounding: Rounding): Uint8Array => {
    const codes = new Uint8Array(4096).fill(8);
    const { take } = stepper(codes, { rounding });
    for (let i = 0; i < 10; i++) take(Array.from({ length: 4096 }, () => -0.1));
    return codes;
  };

  it('never arrives when it is rounded to nearest', () => {
    expect(after('nearest').every((code) => code === 8)).toBe(true);
  });

  it('arrives on average when it is rounded at random, in time when it is carried', () => {
    const random = after('sr');
    const mean = random.reduce((sum, code) => sum + code - 8, 0) / random.length;
    // Ten Bernoulli(0.1) an element: deviation of the mean √(0.9 / 4096). Power: losing or doubling a tenth of the steps is off by 6 of them.
    expect(Math.abs(mean - 1)).toBeLessThan(5 * Math.sqrt(0.9 / 4096));
    expect(new Set(random).size).toBeGreaterThan(2);
    expect(after('error-feedback').every((code) => code === 9)).toBe(true);
  });
});

describe('codes', () => {
  it.each([
    ['error-feedback', 'float32'],
    ['error-feedback', '16-bit'],
    ['sr', 'float32'],
    ['nearest', 'float32'],
  ] as const)('stay on their grid with %s (%s), whatever is asked for', (rounding, kept) => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 8 }), steps(1e6), (bits, gradients) => {
        const maxCode = 2 ** bits - 1;
        const codes = Uint8Array.of(0, maxCode, maxCode >> 1, 1);
        const { take, carry } = stepper(codes, { rounding, carry: kept, maxCode });
        for (const gradient of gradients) {
          const before = [...codes];
          const { changed } = take(gradient);
          expect(changed).toBe(before.filter((code, i) => code !== codes[i]).length);
          expect(codes.every((code) => code <= maxCode)).toBe(true);
          expect(unpackCodes(packCodes(codes, bits), bits, codes.length)).toEqual(codes);
          expect(carry().every((c) => Math.abs(c) <= 0.5)).toBe(true);
        }
      }),
    );
  });

  it('do not move where the learning rate is 0', () => {
    for (const rounding of ['error-feedback', 'sr', 'nearest'] as const) {
      const codes = Uint8Array.of(0, 7, 15);
      expect(stepper(codes, { rounding }).take([5, -5, 1e9], 0)).toEqual({ changed: 0, clamped: 0 });
      expect([...codes]).toEqual([0, 7, 15]);
    }
  });
});

describe('float elements', () => {
  it('keep the sign of a scale: what would cross 0 stays at it', () => {
    const scales = Float32Array.of(0.5, 0.5, -0.5, -0.5);
    const { take } = stepper(scales, { kind: 'scales', weightDecay: 1 });
    expect(take([0.25, 1, -0.25, -1])).toEqual({ changed: 4, clamped: 2 });
    expect([...scales]).toEqual([0.25, 0, -0.25, -0]);
    expect(take([0, -0.5, 0, 0.5]).clamped).toBe(0);
    expect([...scales]).toEqual([0.25, 0.5, -0.25, -0.5]);
  });

  it.each(['adapters', 'weights'] as const)('%s take the step as it is, and decay', (kind) => {
    const values = Float32Array.of(1, -2);
    stepper(values, { kind, weightDecay: 0.5 }).take([1, 0], 0.25);
    expect([...values]).toEqual([1 - 0.25 * (1 + 0.5), -2 + 0.25]);
  });
});
