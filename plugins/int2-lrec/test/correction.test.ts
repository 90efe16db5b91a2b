// The closed-form corrections of one Linear: the contract, what they minimise, and what they say.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, DenseLinear, gram, type Linear, readFloats, type Tensor, tensor } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { type LowRankLinear, linearKinds, QuantizedLinear, quantizeWeight } from '@lowbit/quant';
import { createToyModel, describeMethod } from '@lowbit/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sharedRoot } from '../src/correction/shared-root.js';
import { type LowRankCorrectionInput, lowRankCorrection } from '../src/index.js';
import { correctionOf, gramOf, multiply, norm, normIn, type Rows, subtract, toRows, weightOf } from './matrices.js';
import { rounding } from './rounding.js';

const backend = createReferenceBackend();
const base = rounding({ bits: 2, groupSize: 16 });

for (const options of [{ rank: 2 }, { form: 'loftq', rank: 2, rounds: 2 }] as const) {
  describeMethod(lowRankCorrection, {
    quantize,
    createBackend: createReferenceBackend,
    options,
    override: { rank: 3 },
    kinds: linearKinds,
    prepare: [base],
  });
}

const [out, n] = [20, 32];
const path = 'model.layers.0.mlp.up_proj';

/** Inputs that are correlated, some of them large; those listed are always 0. */
function inputsOf(rows: number, seed: number, dead: readonly number[] = []): Rows {
  const rng = createRng(seed);
  const mix = toRows(rng.at('mix').normal(n * n), n).map((row, i) => row.map((value, j) => value / Math.sqrt(n) + (i === j ? 1 : 0)));
  const inputs = multiply(toRows(rng.at('inputs').normal(rows * n), n), mix);
  return inputs.map((row) => row.map((value, j) => (dead.includes(j) ? 0 : j % 11 === 1 ? 8 * value : value)));
}

interface Corrected {
  readonly linear: Linear;
  readonly record: Readonly<Record<string, unknown>>;
  readonly warnings: readonly string[];
}

/** The step on one Linear, outside of a run. */
async function correctOne(weight: Float32Array, given: Linear, input: LowRankCorrectionInput, x: Rows): Promise<Corrected> {
  const step = lowRankCorrection(input);
  const { method, options } = step;
  const model = createToyModel({ hiddenSize: n, innerSize: out, headCount: 2, keyValueHeadCount: 2 });
  const statistics = typeof method.statistics === 'function' ? method.statistics(options) : (method.statistics ?? {});
  const rows = tensor(Float32Array.from(x.flat()), [x.length, n]);
  const stats: Record<string, Tensor> = {};
  for (const [name, statistic] of Object.entries(statistics)) [stats[name]] = await backend.evaluate([statistic.of(rows)]);
  let record: Readonly<Record<string, unknown>> = {};
  const warnings: string[] = [];
  const linear = await method.quantizeLinear!(given, {
    ...{ backend, options, path, stats, model, rows: x.length, rng: createRng(5), signal: undefined, saved: undefined },
    optionsFor: (other) => (other === path ? options : undefined),
    reference: async () => new DenseLinear(tensor(weight, [out, n])),
    progress: () => {},
    save: async () => {},
    log: (given) => {
      record = given;
    },
    warn: (code, message) => warnings.push(`${code}: ${message}`),
  });
  return { linear, record, warnings };
}

const grid = { bits: 2, groupSize: 8, symmetric: false, clip: 'minmax', scaleDtype: 'float16' } as const;
const nearest = (
  weight: Float32Array,
  more: Partial<typeof grid | { bits: number; symmetric: boolean; scaleDtype: 'float32' }> = {},
): QuantizedLinear => new QuantizedLinear(quantizeWeight(weight, [out, n], { ...grid, ...more }), tensor(createRng(8).normal(out), [out]));
const exactOptions = { adapterDtype: 'float32', dampening: 0 } as const;

describe('low-rank-correction', () => {
  it.each(['svd', 'l2qer', 'qera-approx', 'qera-exact', 'eora', 'loftq', 'pissa'] as const)(
    '%s at full rank gives the dense weight back, and logs what it left',
    async (form) => {
      const weight = createRng(1).normal(out * n);
      const options = { ...exactOptions, form, rank: out };
      const { linear, record, warnings } = await correctOne(weight, nearest(weight), options, inputsOf(100, 2));
      const whole = toRows(weight, n);
      expect(norm(subtract(await weightOf(backend, linear), whole)) / norm(whole)).toBeLessThan(1e-5);
      expect(record).toMatchObject({ form, rank: out });
      expect(record['errorBefore']).toBeGreaterThan(0.2);
      expect(record['errorAfter']).toBeLessThan(1e-4);
      expect(warnings).toEqual([]);
    },
  );

  it('gives the same correction whatever alpha is, in the factors that are stored', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('svd', 'qera-exact', 'loftq', 'pissa' as const),
        fc.integer({ min: 1, max: 6 }),
        fc.double({ min: 0.05, max: 400, noNaN: true }),
        fc.constantFrom('float16', 'float32' as const),
        fc.nat(1000),
        async (form, rank, alpha, adapterDtype, seed) => {
          const weight = createRng(seed).normal(out * n);
          const x = inputsOf(100, seed);
          const [plain, scaled] = [
            await correctOne(weight, nearest(weight), { form, rank, rounds: 1, adapterDtype: 'float32' }, x),
            await correctOne(weight, nearest(weight), { form, rank, rounds: 1, adapterDtype, alpha }, x),
          ];
          expect(scaled.linear).toMatchObject({ scaling: alpha / rank, factorDtype: adapterDtype });
          const expected = await correctionOf(plain.linear);
          const distance = norm(subtract(await correctionOf(scaled.linear), expected)) / norm(expected);
          expect(distance).toBeLessThan(adapterDtype === 'float16' ? 1e-3 : 1e-6);
        },
      ),
      { numRuns: 24 },
    );
  });

  it('logs relative errors in its own norm, those of the factors that are stored', async () => {
    const weight = createRng(3).normal(out * n);
    const x = inputsOf(100, 4);
    const g = gramOf(x);
    const whole = toRows(weight, n);
    const diagonal = g.map((row, i) => row.map((value, j) => (i === j ? value : 0)));
    const identity = g.map((row, i) => row.map((_, j) => Number(i === j)));
    for (const [form, metric] of [
      ['svd', identity],
      ['qera-approx', diagonal],
      ['qera-exact', g],
      ['loftq', identity],
      ['pissa', identity],
    ] as const) {
      const given = nearest(weight);
      const { linear, record } = await correctOne(weight, given, { ...exactOptions, form, rank: 3, adapterDtype: 'float16' }, x);
      const relative = async (layer: Linear): Promise<number> =>
        normIn(metric, subtract(await weightOf(backend, layer), whole)) / normIn(metric, whole);
      expect((record['errorBefore'] as number) / (await relative(given)), form).toBeCloseTo(1, 4);
      expect((record['errorAfter'] as number) / (await relative(linear)), form).toBeCloseTo(1, 4);
    }
  });

  it('leaves less error at fresh outputs the more it knows of the inputs: exact < approx < svd < none', async () => {
    const seeds = [0, 1, 2, 3];
    const inputs = inputsOf(800, 60);
    const fresh = gramOf(inputs.slice(400));
    const errors = { none: 0, svd: 0, 'qera-approx': 0, 'qera-exact': 0 };
    for (const seed of seeds) {
      const weight = createRng(40 + seed).normal(out * n);
      const whole = toRows(weight, n);
      const relative = async (linear: Linear): Promise<number> =>
        normIn(fresh, subtract(await weightOf(backend, linear), whole)) / normIn(fresh, whole) / seeds.length;
      const given = nearest(weight);
      errors.none += await relative(given);
      for (const form of ['svd', 'qera-approx', 'qera-exact'] as const) {
        const { linear } = await correctOne(weight, given, { form, rank: 4, dampening: 0 }, inputs.slice(0, 400));
        errors[form] += await relative(linear);
      }
    }
    // Measured: exact 0.0802, approx 0.0835, svd 0.1913, none 0.2788.
    expect(errors['qera-exact'] / errors['qera-approx']).toBeLessThan(0.97);
    expect(errors['qera-approx'] / errors.svd).toBeLessThan(0.6);
    expect(errors.svd / errors.none).toBeLessThan(0.8);
  });

  it('with loftq rounds in the representation that is there, to no more error than the first round or the given codes', async () => {
    const free = (weight: Float32Array): QuantizedLinear => {
      const { weight: affine, bias } = nearest(weight);
      const offset = tensor(createRng(2).normal(affine.scale.size), affine.scale.shape);
      return new QuantizedLinear(affine.with({ zeroPoint: undefined, offset, scaleDtype: 'float32' }), bias);
    };
    const makers = [nearest, (w: Float32Array) => nearest(w, { bits: 3, symmetric: true, scaleDtype: 'float32' }), free];
    for (const [seed, make] of makers.entries()) {
      const weight = createRng(70 + seed).normal(out * n);
      const given = make(weight);
      const left = async (form: 'loftq' | 'pissa', rounds: number) =>
        correctOne(weight, given, { form, rank: 2, rounds, adapterDtype: 'float32' }, inputsOf(8, 1));
      const [one, five, pissa] = [await left('loftq', 1), await left('loftq', 5), await left('pissa', 1)];
      expect(one.record['errorAfter']).toBeLessThan(one.record['errorBefore'] as number);
      expect(five.record['errorAfter']).toBeLessThanOrEqual(one.record['errorAfter'] as number);
      for (const { linear } of [one, five, pissa]) {
        const { weight: codes, bias } = (linear as LowRankLinear).base as QuantizedLinear;
        const { bits, groupSize, zeroKind, scaleDtype } = given.weight;
        expect(codes).toMatchObject({ bits, groupSize, zeroKind, scaleDtype, storageBits: given.weight.storageBits });
        expect(bias).toBe(given.bias);
      }
    }
  });

  it('stays where it gains nothing, and says so', async () => {
    const weight = createRng(1).normal(out * n);
    const given = nearest(weight);
    const held = Float32Array.from((await weightOf(backend, given)).flat());
    const perfect = await correctOne(held, given, { form: 'svd', rank: 2 }, inputsOf(8, 1));
    expect(perfect.linear).toBe(given);
    expect(perfect.record).toMatchObject({ errorBefore: 0, errorAfter: 0 });
    expect(perfect.warnings).toEqual([expect.stringMatching(/^CORRECTION_NO_GAIN: model\.layers\.0\.mlp\.up_proj: .*stays as it was/)]);
    const silent = inputsOf(100, 1).map((row) => row.map(() => 0));
    const unheard = await correctOne(weight, given, { form: 'qera-approx', rank: 2 }, silent);
    expect(unheard.linear).toBe(given);
    expect(unheard.warnings).toEqual([expect.stringMatching(/^CORRECTION_NO_GAIN/)]);
  });

  it('is finite with inputs that never fire and rows of zeros', async () => {
    const weight = createRng(1)
      .normal(out * n)
      .map((value, i) => (i < n ? 0 : value));
    for (const form of ['svd', 'l2qer', 'qera-approx', 'qera-exact', 'loftq', 'pissa'] as const) {
      for (const dampening of [0, 0.03]) {
        const { linear } = await correctOne(weight, nearest(weight), { form, dampening, rank: 3 }, inputsOf(100, 2, [0, 5, 31]));
        for (const factor of [(linear as LowRankLinear).up, (linear as LowRankLinear).down])
          expect((await readFloats(factor)).every(Number.isFinite), form).toBe(true);
      }
    }
  });

  it('warns of few rows where it uses the whole second moment', async () => {
    const weight = createRng(1).normal(out * n);
    const exact = await correctOne(weight, nearest(weight), { form: 'qera-exact', rank: 2 }, inputsOf(2 * n - 1, 2));
    expect(exact.warnings).toEqual([expect.stringMatching(/^CORRECTION_FEW_ROWS: .*63 calibration rows for 32 inputs/)]);
    expect((await correctOne(weight, nearest(weight), { form: 'eora', rank: 2 }, inputsOf(2 * n, 2))).warnings).toEqual([]);
    expect((await correctOne(weight, nearest(weight), { form: 'qera-approx', rank: 2 }, inputsOf(4, 2))).warnings).toEqual([]);
  });

  it('refuses weights and inputs that are not finite', async () => {
    const weight = createRng(1).normal(out * n);
    const broken = weight.map((value, i) => (i === 7 ? Number.NaN : value));
    const given = nearest(weight);
    await expect(correctOne(broken, given, { form: 'svd', rank: 2 }, inputsOf(8, 1))).rejects.toMatchObject({ code: 'WEIGHT_NOT_FINITE' });
    const wild = inputsOf(100, 1).map((row, i) => (i === 3 ? row.map(() => Number.POSITIVE_INFINITY) : row));
    await expect(correctOne(weight, given, { form: 'qera-exact', rank: 2 }, wild)).rejects.toMatchObject({ code: 'CHOLESKY_INPUT' });
    await expect(correctOne(weight, given, { form: 'l2qer', rank: 2 }, wild)).rejects.toMatchObject({ code: 'ROOT_INPUT' });
  });
});

describe('sharedRoot', () => {
  it('makes one root of a statistic, and another for another form or dampening', async () => {
    const [leaf] = await backend.evaluate([gram.of(tensor(Float32Array.from(inputsOf(100, 1).flat()), [100, n]))]);
    const request = { backend, form: 'qera-exact', stats: { gram: leaf }, dampening: 0.03 } as const;
    const root = await sharedRoot(request);
    expect(await sharedRoot({ ...request, stats: { gram: leaf } })).toBe(root);
    expect(await sharedRoot({ ...request, dampening: 0.1 })).not.toBe(root);
    const [other] = await backend.evaluate([gram.of(tensor(Float32Array.from(inputsOf(100, 2).flat()), [100, n]))]);
    expect(await sharedRoot({ ...request, stats: { gram: other } })).not.toBe(root);
  });
});
