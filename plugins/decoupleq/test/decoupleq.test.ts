// decoupleQ as a method: the contract, what is stored, what is logged, and what is said when something is off.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { DenseLinear, type Linear, readFloats, roundToFloat16, type Tensor, tensor } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { gptqFactor, linearKinds, type QuantizedLinear } from '@lowbit/quant';
import { describeMethod } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import decoupleq, { decoupleqOptions } from '../src/index.js';
import { reportLayer } from '../src/report.js';
import { sharedHessian } from '../src/shared-hessian.js';
import { rowError } from './oracle.js';
import { backend, hessianOf, layerOf } from './problems.js';

describeMethod(decoupleq, {
  quantize,
  createBackend: createReferenceBackend,
  options: { bits: 3, groupSize: 16, codeStep: 'gptq', blockEpochs: 0 },
  override: { bits: 2 },
  kinds: linearKinds,
});

const OUT = 6;
const IN = 16;
const ROWS = 128;
const path = 'model.layers.0.mlp.up_proj';

interface Outcome {
  readonly linear: QuantizedLinear;
  readonly records: Readonly<Record<string, unknown>>[];
  readonly warnings: string[];
}

async function quantizeOne(weight: Float32Array, gram: Tensor, input: Parameters<typeof decoupleq>[0] = {}, rows = ROWS): Promise<Outcome> {
  const step = decoupleq({ groupSize: 8, codeStep: 'gptq', ...input });
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

const gramOf = (seed: number, dead: readonly number[] = []): Tensor => {
  const values = hessianOf(IN, seed, dead);
  for (const i of dead) for (let j = 0; j < IN; j++) values[i * IN + j] = values[j * IN + i] = 0;
  return tensor(values, [IN, IN]);
};

const weightOf = async (seed: number): Promise<Float32Array> => (await layerOf({ rows: OUT, inputs: IN, groupSize: 8, seed })).weight;

describe('decoupleq', () => {
  it('stores codes with free offsets, zero points, or neither, in the precision asked for', async () => {
    const weight = await weightOf(1);
    for (const zero of ['free', 'integer', 'symmetric'] as const) {
      for (const scaleDtype of ['float16', 'float32'] as const) {
        const { linear, warnings } = await quantizeOne(weight, gramOf(1), { zero, scaleDtype });
        expect(warnings).toEqual([]);
        expect(linear.weight.zeroKind).toBe(zero);
        expect(linear.weight.scaleDtype).toBe(scaleDtype);
        expect(linear.weight.groupSize).toBe(8);
        const [scale, offset] = await backend.evaluate([linear.weight.scale, linear.weight.effectiveOffset]);
        const stored = [...(await readFloats(scale)), ...(zero === 'free' ? await readFloats(offset) : [])];
        expect(stored.every((value) => scaleDtype === 'float32' || roundToFloat16(value) === value)).toBe(true);
      }
    }
  });

  it('logs the trace, the losses and the rows; its loss is that of the weight it returns, dampening included', async () => {
    const weight = await weightOf(2);
    const gram = gramOf(2);
    for (const zero of ['free', 'integer', 'symmetric'] as const) {
      const { linear, records } = await quantizeOne(weight, gram, { zero, dampening: 0.05 });
      expect(records).toHaveLength(1);
      const [record] = records as { loss: number; nearestLoss: number; gptqLoss: number; trace: { step: string; loss: number }[] }[];
      expect(record).toMatchObject({ dampening: 0.05, deadInputs: 0, rows: ROWS });
      const h = Array.from({ length: IN }, (_, i) => [
        ...(gram.source.kind === 'leaf' ? (gram.source.data as Float32Array) : []).slice(i * IN, (i + 1) * IN),
      ]);
      const mean = h.reduce((total, row, i) => total + row[i], 0) / IN;
      h.forEach((row, i) => {
        row[i] += 0.05 * mean;
      });
      const [leaf] = await backend.evaluate([linear.effectiveWeight()]);
      const found = await readFloats(leaf);
      let [error, energy] = [0, 0];
      for (let r = 0; r < OUT; r++) {
        const w = [...weight.slice(r * IN, (r + 1) * IN)];
        error += rowError(h, w, [...found.slice(r * IN, (r + 1) * IN)]);
        energy += rowError(h, w, new Array<number>(IN).fill(0));
      }
      expect(record.loss / (error / energy)).toBeCloseTo(1, 4);
      expect(record.trace.at(-1)?.loss).toBe(record.loss);
      expect(record.trace[0]).toMatchObject({ step: 'rtn', loss: record.nearestLoss });
      expect(record.trace[1].loss).toBeLessThanOrEqual(Math.min(record.gptqLoss, record.nearestLoss));
      expect(record.loss).toBeLessThan(record.trace[1].loss);
    }
  });

  it.each(['gptq', 'pgd+gptq', 'first-level'] as const)('has the code step %s, with coordinate descent or without', async (codeStep) => {
    const weight = await weightOf(3);
    const losses: number[] = [];
    for (const descentSweeps of [0, 2]) {
      const { records } = await quantizeOne(weight, gramOf(3), { codeStep, descentSweeps, relaxationSteps: 20, innerSteps: 5 });
      losses.push(records[0].loss as number);
      expect(records[0].loss).toBeLessThan(records[0].gptqLoss as number);
    }
    expect(losses[0]).not.toBe(losses[1]);
  });

  it('counts inputs that never fire, says so, and stays finite', async () => {
    const { linear, records, warnings } = await quantizeOne(await weightOf(4), gramOf(4, [3, 9]));
    expect(records[0].deadInputs).toBe(2);
    expect(warnings).toEqual([expect.stringMatching(/^DECOUPLEQ_DEAD_INPUTS: .*: 2 of \d+ inputs are 0 in all \d+ calibration rows; /)]);
    const [leaf] = await backend.evaluate([linear.effectiveWeight()]);
    expect((await readFloats(leaf)).every(Number.isFinite)).toBe(true);
    const silent = await quantizeOne(await weightOf(4), tensor(new Float32Array(IN * IN), [IN, IN]));
    expect(silent.records[0].deadInputs).toBe(IN);
    const [all] = await backend.evaluate([silent.linear.effectiveWeight()]);
    expect((await readFloats(all)).every(Number.isFinite)).toBe(true);
  });

  it('says when there are too few rows, and when the factor needed more dampening', async () => {
    const x = (await weightOf(5)).slice(0, IN);
    const rankOne = Float32Array.from({ length: IN * IN }, (_, i) => x[Math.floor(i / IN)] * x[i % IN]);
    const { warnings } = await quantizeOne(await weightOf(5), tensor(rankOne, [IN, IN]), { dampening: 1e-9 }, 63);
    expect(warnings[0]).toMatch(
      /^DECOUPLEQ_FEW_ROWS: model\.layers\.0\.mlp\.up_proj: 63 calibration rows for 16 inputs .*calibrate on 64 or more$/,
    );
    expect(warnings[1]).toMatch(/^DECOUPLEQ_DAMPENING: .*its factor was raised from 0 to .*calibrate on more text$/);
  });

  it('says when scales are beyond float16 and keeps them', async () => {
    const weight = (await weightOf(6)).map((w) => w * 3e5);
    const { linear, warnings } = await quantizeOne(weight, gramOf(6), { scaleDtype: 'float16' });
    expect(warnings).toEqual([expect.stringMatching(/^DECOUPLEQ_SCALE_RANGE: .* beyond float16; they are stored as float32$/)]);
    expect(linear.weight.scaleDtype).toBe('float32');
  });

  it('says when scales are not determined, and when the alternation gained nothing', async () => {
    const constant = new Float32Array(OUT * IN).map((_, i) => (i < 8 ? 0.5 : Math.sin(i)));
    const { warnings } = await quantizeOne(constant, gramOf(7));
    expect(warnings).toEqual([expect.stringMatching(/^DECOUPLEQ_SINGULAR: .*: 1 scales are not determined/)]);
    const identity = Float32Array.from({ length: IN * IN }, (_, i) => (i % (IN + 1) === 0 ? 1 : 0));
    // The covering grid 0, 1, 2, 3 is the least-squares fit already: the residuals are orthogonal to 1 and to the codes.
    const fitted = new Float32Array(OUT * IN).map((_, i) => [0.05, 0.9, 2.05, 3][i % 4]);
    const result = await quantizeOne(fitted, tensor(identity, [IN, IN]), { scaleDtype: 'float16', iterations: 2, groupSize: 4 });
    expect(result.warnings).toEqual([
      expect.stringMatching(/^DECOUPLEQ_NO_GAIN: .*gained nothing over GPTQ and rounding to nearest, loss 0\.001/),
    ]);
  });

  it('refuses weights and activations that are no numbers, with the layer in the message', async () => {
    const weight = await weightOf(8);
    const broken = weight.slice();
    broken[IN + 3] = Number.NaN;
    await expect(quantizeOne(broken, gramOf(8))).rejects.toThrow(
      /^WEIGHT_NOT_FINITE: model\.layers\.0\.mlp\.up_proj: output 1, input 3 is NaN/,
    );
    const overflown = tensor(new Float32Array(IN * IN).fill(Number.POSITIVE_INFINITY), [IN, IN]);
    await expect(quantizeOne(weight, overflown)).rejects.toThrow(/^GRAM_NOT_FINITE: model\.layers\.0\.mlp\.up_proj: /);
    const { method, options } = decoupleq({ groupSize: 7 });
    expect(() => method.check?.({ path, kind: 'dense', inFeatures: IN, outFeatures: OUT }, options)).toThrow(
      /^GROUP_SIZE: model\.layers\.0\.mlp\.up_proj/,
    );
  });

  it('has the published Llama command as a preset; what is written counts more', () => {
    expect(decoupleqOptions.parse({ preset: 'paper' })).toEqual({
      bits: 2,
      groupSize: -1,
      zero: 'free',
      scaleDtype: 'float32',
      actOrder: true,
      dampening: 0.01,
      factorDampening: 0.01,
      iterations: 4,
      search: 'full',
      codeStep: 'gptq',
      relaxationSteps: 100,
      relaxationRate: 0.02,
      innerSteps: 50,
      descentSweeps: 0,
      ridge: 1e-6,
      blockEpochs: 4,
      blockLearningRate: 1e-5,
      blockWeightDecay: 1e-6,
      blockSchedule: 'constant',
      blockLoss: 'absolute',
      blockBatch: 1,
      blockHoldOut: 0,
      trainNorms: true,
      trainBiases: false,
    });
    expect(decoupleqOptions.parse({ preset: 'paper', groupSize: 64, search: undefined })).toMatchObject({ groupSize: 64, search: 'full' });
  });

  it('dampens the metric once, and the factor as often as it is told to', async () => {
    const gram = gramOf(10);
    const request = { backend, gram, dampening: 0.01, actOrder: true, path };
    const once = await sharedHessian({ ...request, factorDampening: 0 });
    const twice = await sharedHessian({ ...request, factorDampening: 0.01 });
    expect(twice.hessian).toEqual(once.hessian);
    expect(twice.factor.upper).toEqual((await gptqFactor(backend, once.hessian, IN, { dampening: 0.01, actOrder: true })).upper);
    expect(twice.factor.upper).not.toEqual(once.factor.upper);
  });

  it('says that nothing was gained where each row kept the better of GPTQ and rounding to nearest', () => {
    const warnings: string[] = [];
    const context = {
      options: decoupleqOptions.parse({}),
      path,
      rows: 1000,
      log: () => {},
      warn: (code: string) => warnings.push(code),
    } as unknown as Parameters<typeof reportLayer>[0];
    const problem = { inFeatures: IN, factor: { dampening: 0 } } as unknown as Parameters<typeof reportLayer>[1];
    const steps = [0.2, 0.1, 0.1, 0.1].map((loss, i) => ({ step: ['rtn', 'gptq', 'codes-0', 'scales-0'][i], loss, accepted: 0 }));
    const result = { loss: 0.1, nearestLoss: 0.2, gptqLoss: 0.15, trace: steps, scaleDtype: 'float16', heldScales: 0 };
    reportLayer(context, problem, result as unknown as Parameters<typeof reportLayer>[2], 0);
    expect(warnings).toEqual(['DECOUPLEQ_NO_GAIN']);
  });

  it('dampens and factors a Gram matrix once for all layers that read the same inputs', async () => {
    const gram = gramOf(9);
    const request = { backend, gram, dampening: 0.01, factorDampening: 0, actOrder: true, path };
    const shared = await sharedHessian(request);
    expect(await sharedHessian({ ...request, path: 'model.layers.0.mlp.gate_proj' })).toBe(shared);
    expect(await sharedHessian({ ...request, dampening: 0.02 })).not.toBe(shared);
    expect(await sharedHessian({ ...request, factorDampening: 0.01 })).not.toBe(shared);
    expect(await sharedHessian({ ...request, actOrder: false })).not.toBe(shared);
    expect(await sharedHessian({ ...request, gram: gramOf(9) })).not.toBe(shared);
    const given = gram.source.kind === 'leaf' ? (gram.source.data as Float32Array) : undefined;
    expect(shared.hessian[0]).toBeGreaterThan(given?.[0] ?? Infinity);
    expect(shared.factor.dampening).toBe(0);
  });
});
