// GPTQ as a method: the contract, what the error feedback gains, and what is said when it gains nothing.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, DenseLinear, type Linear, matmul, readFloats, type Tensor, tensor } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { linearKinds, QuantizedLinear, quantizeWeight } from '@lowbit/quant';
import { describeMethod } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import gptq from '../src/index.js';
import { sharedFactor } from '../src/shared-factor.js';

const backend = createReferenceBackend();

describeMethod(gptq, {
  quantize,
  createBackend: createReferenceBackend,
  options: { bits: 3, groupSize: 16 },
  override: { bits: 2 },
  kinds: linearKinds,
});

const OUT = 12;
const IN = 32;
const ROWS = 256;
const path = 'model.layers.0.mlp.up_proj';

/** Gram matrix of rows that mix a few directions, as activations do. */
async function correlatedGram(seed: number): Promise<Tensor> {
  const rng = createRng(seed);
  const hidden = tensor(rng.at('hidden').normal(ROWS * 8), [ROWS, 8]);
  const mixed = matmul(hidden, tensor(rng.at('mix').normal(8 * IN), [8, IN]));
  const [x] = await backend.evaluate([mixed]);
  const noise = rng.at('noise').normal(ROWS * IN);
  const inputs = tensor(
    (await readFloats(x)).map((value, i) => value + 0.3 * noise[i]),
    [ROWS, IN],
  );
  const [gram] = await backend.evaluate([matmul(inputs, inputs, { transposeA: true })]);
  return gram;
}

interface Outcome {
  readonly linear: QuantizedLinear;
  readonly records: Readonly<Record<string, unknown>>[];
  readonly warnings: string[];
}

async function round(weight: Float32Array, gram: Tensor, options: Parameters<typeof gptq>[0], rows = ROWS): Promise<Outcome> {
  const step = gptq(options);
  const records: Record<string, unknown>[] = [];
  const warnings: string[] = [];
  const context = {
    backend,
    options: step.options,
    path,
    stats: { gram },
    rows,
    log: (record: Record<string, unknown>) => records.push(record),
    warn: (code: string, message: string) => warnings.push(`${code}: ${message}`),
  } as unknown as Parameters<NonNullable<typeof step.method.quantizeLinear>>[1];
  const dense: Linear = new DenseLinear(tensor(weight, [OUT, IN]));
  const linear = await step.method.quantizeLinear?.(dense, context);
  return { linear: linear as QuantizedLinear, records, warnings };
}

/** tr(E G Eᵀ) in float64, E = Ŵ − W. */
async function gramError(linear: QuantizedLinear, weight: Float32Array, gram: Tensor): Promise<number> {
  const [rounded] = await backend.evaluate([linear.effectiveWeight()]);
  const [approximation, g] = await Promise.all([readFloats(rounded), readFloats(gram)]);
  let total = 0;
  for (let r = 0; r < OUT; r++) {
    for (let i = 0; i < IN; i++) {
      for (let j = 0; j < IN; j++) {
        const [a, b] = [r * IN + i, r * IN + j];
        total += (approximation[a] - weight[a]) * g[i * IN + j] * (approximation[b] - weight[b]);
      }
    }
  }
  return total;
}

describe('gptq', () => {
  const weight = createRng(1).normal(OUT * IN);
  const grid = { bits: 3, groupSize: 16, symmetric: false, scaleDtype: 'float16' } as const;

  it.each([2, 3, 4])('leaves less output error than rounding to nearest on the same grid, at %i bits', async (bits) => {
    let ratio = 0;
    const seeds = [1, 2, 3, 4];
    for (const seed of seeds) {
      const gram = await correlatedGram(seed);
      for (const actOrder of [true, false]) {
        const { linear, warnings } = await round(weight, gram, { ...grid, bits, clip: 'minmax', actOrder });
        const nearest = new QuantizedLinear(quantizeWeight(weight, [OUT, IN], { ...grid, bits, clip: 'minmax' }));
        const share = (await gramError(linear, weight, gram)) / (await gramError(nearest, weight, gram));
        expect(share).toBeLessThan(1);
        expect(warnings).toEqual([]);
        ratio += share / (2 * seeds.length);
      }
    }
    expect(ratio).toBeLessThan(0.5);
  });

  it('keeps the grid it was given: groups are those of the inputs, whatever the order', async () => {
    const gram = await correlatedGram(5);
    const values = await readFloats(gram);
    const diagonal = Float32Array.from({ length: IN }, (_, i) => values[i * (IN + 1)]);
    const floor = (0.01 * diagonal.reduce((total, value) => total + value, 0)) / IN;
    for (const clip of ['minmax', 'mse'] as const) {
      const { linear } = await round(weight, gram, { ...grid, clip });
      const fitted = quantizeWeight(
        weight,
        [OUT, IN],
        { ...grid, clip },
        diagonal.map((value) => value + floor),
      );
      expect(await readFloats(linear.weight.scale)).toEqual(await readFloats(fitted.scale));
      expect(linear.weight.groupSize).toBe(16);
    }
  });

  it('logs dampening, dead inputs and both losses', async () => {
    const gram = await correlatedGram(6);
    const { records } = await round(weight, gram, grid);
    expect(records).toHaveLength(1);
    expect(records[0]).toMatchObject({ dampening: 0.01, deadInputs: 0 });
    expect(records[0].loss).toBeLessThan(records[0].nearestLoss as number);
  });

  it('counts inputs that never fire, rounds them to nearest and says so', async () => {
    const values = (await readFloats(await correlatedGram(7))).slice();
    for (let i = 0; i < IN; i++) values[3 * IN + i] = values[i * IN + 3] = 0;
    const { linear, records, warnings } = await round(weight, tensor(values, [IN, IN]), { ...grid, clip: 'minmax' });
    expect(records[0].deadInputs).toBe(1);
    expect(warnings[0]).toMatch(/^GPTQ_DEAD_INPUTS: .*: 1 of \d+ inputs are 0 in all \d+ calibration rows; .* rounded to nearest$/);
    const nearest = quantizeWeight(weight, [OUT, IN], { ...grid, clip: 'minmax' });
    const [codes, expected] = [linear.weight.codes, nearest.codes].map((t) =>
      t.source.kind === 'leaf' ? (t.source.data as Uint8Array) : undefined,
    );
    for (let r = 0; r < OUT; r++) expect(codes?.[r * IN + 3]).toBe(expected?.[r * IN + 3]);
  });

  it('rounds to nearest and says so where feedback gains nothing', async () => {
    const identity = tensor(
      Float32Array.from({ length: IN * IN }, (_, i) => (i % (IN + 1) === 0 ? 1 : 0)),
      [IN, IN],
    );
    const { linear, warnings } = await round(weight, identity, { ...grid, clip: 'minmax' });
    expect(warnings).toEqual([
      expect.stringMatching(/^GPTQ_NO_GAIN: model\.layers\.0\.mlp\.up_proj: error feedback gave .* the layer is rounded to nearest$/),
    ]);
    const nearest = quantizeWeight(weight, [OUT, IN], { ...grid, clip: 'minmax' });
    expect(linear.weight.codes.source).toMatchObject({ data: (nearest.codes.source as { data?: Uint8Array }).data });
  });

  it('says when the Hessian needed more dampening', async () => {
    const x = createRng(8).normal(IN);
    const rankOne = tensor(
      Float32Array.from({ length: IN * IN }, (_, i) => x[Math.floor(i / IN)] * x[i % IN]),
      [IN, IN],
    );
    const { warnings, records } = await round(weight, rankOne, { ...grid, dampening: 1e-9 });
    expect(records[0].dampening).toBeGreaterThan(1e-9);
    expect(warnings[0]).toMatch(/^GPTQ_DAMPENING: .*dampening was raised from 1e-9 to .*calibrate on more text/);
  });

  it('recovers from inputs that occur twice, and says how much dampening that took', async () => {
    const values = (await readFloats(await correlatedGram(9))).slice();
    const twin = (i: number): number => (i === 5 ? 2 : i);
    const gram = Float32Array.from({ length: IN * IN }, (_, i) => values[twin(Math.floor(i / IN)) * IN + twin(i % IN)]);
    const { linear, warnings, records } = await round(weight, tensor(gram, [IN, IN]), { ...grid, dampening: 1e-12 });
    expect(records[0].dampening).toBeGreaterThan(1e-12);
    expect(warnings).toEqual([expect.stringMatching(/^GPTQ_DAMPENING: .* is singular; dampening was raised from 1e-12 to /)]);
    expect((await readFloats(linear.weight.scale)).every(Number.isFinite)).toBe(true);
    expect(records[0].loss).toBeLessThan(records[0].nearestLoss as number);
  });

  it('says when there are too few rows to learn from', async () => {
    const { warnings } = await round(weight, await correlatedGram(5), grid, 127);
    expect(warnings).toEqual([
      expect.stringMatching(
        /^GPTQ_FEW_ROWS: model\.layers\.0\.mlp\.up_proj: 127 calibration rows for 32 inputs .*calibrate on 128 or more$/,
      ),
    ]);
  });

  it('refuses activations that overflowed, with the layer in the message', async () => {
    const gram = tensor(new Float32Array(IN * IN).fill(Number.POSITIVE_INFINITY), [IN, IN]);
    await expect(round(weight, gram, grid)).rejects.toThrow(/^GRAM_NOT_FINITE: model\.layers\.0\.mlp\.up_proj: /);
  });

  it('factors a Gram matrix once for all layers that read the same inputs', async () => {
    const gram = await correlatedGram(9);
    const request = { backend, gram, dampening: 0.01, actOrder: true, path };
    const factor = await sharedFactor(request);
    expect(await sharedFactor({ ...request, path: 'model.layers.0.mlp.gate_proj' })).toBe(factor);
    expect(await sharedFactor({ ...request, actOrder: false })).not.toBe(factor);
    expect(await sharedFactor({ ...request, gram: await correlatedGram(9) })).not.toBe(factor);
  });
});
