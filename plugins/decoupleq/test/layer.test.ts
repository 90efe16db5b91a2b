// The alternation on one layer: the published one in float64, and what must hold whatever the data.
import { createRng, roundToFloat16 } from '@lowbit/core';
import { gptqCodes, roundToGrid } from '@lowbit/quant';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type DecoupleResult, decouple } from '../src/layer.js';
import type { LayerProblem, Quantized } from '../src/problem.js';
import { coveringScales } from '../src/stored-scales.js';
import { alternate, coveringGrid, gptqRow, nearest, rowError, scaleStep, values } from './oracle.js';
import { hessianRows, layerOf, published, rowsOf, weightRows } from './problems.js';

/** Errors of the rows in float64, from the parts alone. */
function measured(problem: LayerProblem, { quantized }: Pick<DecoupleResult, 'quantized'>): number[] {
  return rowsOf(problem, quantized).map((row, r) => rowError(hessianRows(problem), weightRows(problem)[r], values(row)));
}

const sum = (list: readonly number[]): number => list.reduce((total, value) => total + value, 0);

describe('decouple', () => {
  it.each([
    { bits: 2, groupSize: 8 },
    { bits: 2, groupSize: 24 },
    { bits: 3, groupSize: 12 },
  ])('is the published alternation, row by row, at $bits bits in groups of $groupSize', async ({ bits, groupSize }) => {
    const problem = await layerOf({ rows: 12, inputs: 24, groupSize, bits, seed: 11 });
    const result = await decouple(problem, published);
    const expected = weightRows(problem).map((w) => alternate(hessianRows(problem), w, bits, groupSize, 4));
    measured(problem, result).forEach((error, r) => {
      expect(error / expected[r].error).toBeCloseTo(1, 3);
      expect(result.errors[r] / error).toBeCloseTo(1, 4);
    });
    // 'rtn', then a pair for each code and scale step of the oracle, until nothing changes any more.
    const energy = sum(weightRows(problem).map((w) => rowError(hessianRows(problem), w, new Array<number>(24).fill(0))));
    result.trace.forEach(({ loss }, step) => {
      expect((loss * energy) / sum(expected.map(({ trace }) => trace[step]))).toBeCloseTo(1, 3);
    });
    expect(result.trace.slice(0, 4).map(({ step }) => step)).toEqual(['rtn', 'gptq', 'codes-0', 'scales-0']);
  });

  it('never raises the error of a row, whatever the code step, and measures what it returns', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          rows: fc.integer({ min: 1, max: 6 }),
          groupSize: fc.constantFrom(4, 8, 16),
          bits: fc.constantFrom(2, 3, 4),
          zero: fc.constantFrom('free' as const, 'integer' as const, 'symmetric' as const),
          seed: fc.integer({ min: 0, max: 10_000 }),
        }),
        fc.constantFrom('coarse-to-fine' as const, 'none' as const),
        fc.constantFrom('float16' as const, 'float32' as const),
        fc.boolean(),
        async (shape, search, scaleDtype, isWild) => {
          const problem = await layerOf({ ...shape, inputs: 16 });
          const rng = createRng(shape.seed);
          let call = 0;
          const wild = async () =>
            Uint8Array.from(rng.at('codes', call++).uniform(problem.weight.length), (x) => Math.floor(x * 2 ** shape.bits));
          const settings = { ...published, search, scaleDtype, ...(isWild && { codeStep: wild }) };
          let before: number[] | undefined;
          for (const iterations of [1, 2, 3, 5]) {
            call = 0;
            const result = await decouple(problem, { ...settings, iterations });
            const after = measured(problem, result);
            after.forEach((error, r) => {
              expect(Math.abs(error - result.errors[r])).toBeLessThanOrEqual(2e-5 * (before?.[r] ?? error) + 1e-12);
              if (before) expect(error).toBeLessThanOrEqual(before[r] * (1 + 2e-5));
            });
            result.trace.forEach(({ loss, accepted }, i) => {
              if (i > 0) expect(loss).toBeLessThanOrEqual(result.trace[i - 1].loss);
              expect(accepted).toBeGreaterThanOrEqual(0);
              expect(accepted).toBeLessThanOrEqual(1);
            });
            expect(result.quantized.codes.every((code) => code < 2 ** shape.bits)).toBe(true);
            before = after;
          }
        },
      ),
      { numRuns: 25 },
    );
  });

  it('with one iteration is the better of GPTQ and rounding to nearest in each row', async () => {
    const problem = await layerOf({ rows: 40, inputs: 16, groupSize: 16, seed: 12 });
    const { quantized, trace } = await decouple(problem, { ...published, iterations: 1 });
    const h = hessianRows(problem);
    const chosen = weightRows(problem).map((w, r) => {
      const { scale, offset } = coveringGrid(w, 2, 16);
      const [rtn, gptq] = [nearest(w, 2, scale, offset), gptqRow(h, w, 2, scale, offset)];
      const [a, b] = [rtn, gptq].map((codes) => rowError(h, w, values({ codes, scale, offset })));
      expect([...rowsOf(problem, quantized)[r].codes]).toEqual(b < a ? gptq : rtn);
      return b < a;
    });
    expect(new Set(chosen).size).toBe(2);
    expect(trace.map(({ step }) => step)).toEqual(['rtn', 'gptq']);
    expect(trace[1].accepted).toBe(chosen.filter(Boolean).length / 40);
  });

  it('recovers a weight that lies on a grid from that grid', async () => {
    const rng = createRng(13);
    const [rows, inputs, groupSize] = [6, 16, 8];
    const init: Quantized = {
      codes: Uint8Array.from({ length: rows * inputs }, (_, i) => (i * 7 + (i >> 3)) % 4),
      scale: rng
        .at('s')
        .normal(rows * 2)
        .map((s) => Math.abs(s) + 0.1),
      offset: rng.at('z').normal(rows * 2),
    };
    const weight = Float32Array.from(
      init.codes,
      (code, i) => init.scale[Math.floor(i / groupSize)] * code + init.offset[Math.floor(i / groupSize)],
    );
    const problem = await layerOf({ rows, inputs, groupSize, seed: 13, weight });
    const { quantized, loss } = await decouple(problem, { ...published, init });
    expect(loss).toBeLessThan(1e-12);
    expect(quantized.codes).toEqual(init.codes);
  });

  it('refines what another quantizer made: never worse, and starts from its codes', async () => {
    const problem = await layerOf({ rows: 5, inputs: 16, groupSize: 8, seed: 14 });
    const scales = coveringScales(problem, 'float32');
    const init = { ...scales, codes: roundToGrid(problem.weight, { ...problem, ...scales }) };
    const one = await decouple(problem, { ...published, init, iterations: 1 });
    expect(one.quantized).toEqual(init);
    expect(one.trace.map(({ step }) => step)).toEqual(['init']);
    expect(one.nearestLoss).toBeUndefined();
    const more = await decouple(problem, { ...published, init });
    expect(more.trace.map(({ step }) => step).slice(0, 4)).toEqual(['init', 'scales-start', 'codes-0', 'scales-0']);
    expect(more.loss).toBeLessThan(one.loss);
  });

  it('takes negative scales from elsewhere and gives them back positive', async () => {
    for (const zero of ['free', 'integer'] as const) {
      const problem = await layerOf({ rows: 3, inputs: 8, groupSize: 4, seed: 15, zero });
      const scales = coveringScales(problem, 'float32');
      const codes = roundToGrid(problem.weight, { ...problem, ...scales });
      const mirrored: Quantized = {
        codes: codes.map((code) => 3 - code),
        scale: scales.scale.map((s) => -s),
        offset: scales.offset.map((z, g) => z + 3 * scales.scale[g]),
      };
      const { quantized } = await decouple(problem, { ...published, init: mirrored, iterations: 1 });
      expect(quantized.codes).toEqual(codes);
      expect(quantized.scale).toEqual(scales.scale);
      quantized.offset.forEach((z, g) => {
        expect(z).toBeCloseTo(scales.offset[g], 5);
      });
    }
  });

  it('stores a given start as it will be kept: rounded, or in float32 where float16 does not hold it', async () => {
    for (const zero of ['free', 'integer', 'symmetric'] as const) {
      const problem = await layerOf({ rows: 3, inputs: 8, groupSize: 4, seed: 18, zero });
      const exact = coveringScales(problem, 'float32');
      const init = { ...exact, codes: roundToGrid(problem.weight, { ...problem, ...exact }) };
      const half = await decouple(problem, { ...published, scaleDtype: 'float16', init, iterations: 1 });
      expect(half.scaleDtype).toBe('float16');
      expect(half.quantized.codes).toEqual(init.codes);
      expect(half.quantized.scale).toEqual(init.scale.map(roundToFloat16));
      if (zero === 'free') expect(half.quantized.offset).toEqual(init.offset.map(roundToFloat16));
      measured(problem, half).forEach((error, r) => {
        expect(half.errors[r] / error).toBeCloseTo(1, 4);
      });
      const large = await decouple(problem, {
        ...published,
        scaleDtype: 'float16',
        init: { ...init, scale: init.scale.map((s) => s * 1e6) },
        iterations: 1,
      });
      expect(large.scaleDtype).toBe('float32');
      expect(Number.isFinite(large.loss)).toBe(true);
    }
  });

  it('stops between half-steps when it is cancelled', async () => {
    const problem = await layerOf({ rows: 4, inputs: 8, groupSize: 8, seed: 17 });
    const controller = new AbortController();
    let calls = 0;
    const codeStep: typeof published.codeStep = async (given, scales) => {
      calls++;
      controller.abort();
      return published.codeStep(given, scales);
    };
    await expect(decouple(problem, { ...published, codeStep, signal: controller.signal })).rejects.toThrow(/^ABORTED/);
    expect(calls).toBe(1);
  });

  it('with search none starts from the scales that suit the first codes', async () => {
    const problem = await layerOf({ rows: 4, inputs: 16, groupSize: 8, seed: 16 });
    let start: Quantized | undefined;
    await decouple(problem, {
      ...published,
      search: 'none',
      iterations: 2,
      codeStep: async (_, scales) => {
        start = scales as Quantized;
        return roundToGrid(problem.weight, { ...problem, ...scales });
      },
    });
    const first = await decouple(problem, { ...published, iterations: 1 });
    rowsOf(problem, first.quantized).forEach(({ codes }, r) => {
      const best = scaleStep(hessianRows(problem), weightRows(problem)[r], codes, 2);
      best.scale.forEach((scale, g) => {
        expect(Math.abs(start?.scale[r * 2 + g] ?? 0)).toBeCloseTo(Math.abs(scale), 4);
      });
    });
  });
});

describe('invariances', () => {
  it('scales with the weight: W → αW gives αs, αz, the same codes', async () => {
    const problem = await layerOf({ rows: 6, inputs: 16, groupSize: 8, seed: 21 });
    const base = await decouple(problem, published);
    for (const factor of [4, 0.125]) {
      const scaled = await decouple({ ...problem, weight: problem.weight.map((w) => factor * w) }, published);
      expect(scaled.quantized.codes).toEqual(base.quantized.codes);
      scaled.quantized.scale.forEach((s, g) => {
        expect(s / factor / base.quantized.scale[g]).toBeCloseTo(1, 4);
      });
      scaled.errors.forEach((error, r) => {
        expect(error / factor ** 2 / base.errors[r]).toBeCloseTo(1, 4);
      });
    }
  });

  it('shifts with the weight where the start does: W → W + β in a group gives z + β, the same codes', async () => {
    const problem = await layerOf({ rows: 6, inputs: 16, groupSize: 8, seed: 22 });
    const scales = coveringScales(problem, 'float32');
    const init = { ...scales, codes: roundToGrid(problem.weight, { ...problem, ...scales }) };
    const shift = (g: number): number => (g % 2 === 0 ? 0.5 : -0.25);
    const moved = {
      problem: { ...problem, weight: problem.weight.map((w, i) => w + shift(Math.floor(i / 8))) },
      init: { ...init, offset: init.offset.map((z, g) => z + shift(g)) },
    };
    const base = await decouple(problem, { ...published, init });
    const result = await decouple(moved.problem, { ...published, init: moved.init });
    expect(result.quantized.codes).toEqual(base.quantized.codes);
    result.quantized.offset.forEach((z, g) => {
      expect(z - shift(g)).toBeCloseTo(base.quantized.offset[g], 4);
    });
  });

  it('mirrors with the weight: W → −W mirrors the codes', async () => {
    const problem = await layerOf({ rows: 8, inputs: 16, groupSize: 8, seed: 23 });
    const base = await decouple(problem, published);
    const negated = await decouple({ ...problem, weight: problem.weight.map((w) => -w) }, published);
    expect(negated.quantized.codes).toEqual(base.quantized.codes.map((code) => 3 - code));
    negated.errors.forEach((error, r) => {
      expect(error / base.errors[r]).toBeCloseTo(1, 4);
    });
  });

  it('treats rows on their own: permuted rows give permuted results, bit for bit, and so does every run', async () => {
    const problem = await layerOf({ rows: 9, inputs: 16, groupSize: 8, seed: 24 });
    const order = [4, 0, 8, 3, 7, 1, 2, 6, 5];
    const weight = Float32Array.from(order.flatMap((r) => [...problem.weight.subarray(r * 16, (r + 1) * 16)]));
    const settings = { ...published, search: 'coarse-to-fine' as const };
    const base = await decouple(problem, settings);
    expect(await decouple(problem, settings)).toEqual(base);
    const permuted = await decouple({ ...problem, weight }, settings);
    order.forEach((from, to) => {
      expect(rowsOf(problem, permuted.quantized)[to]).toEqual(rowsOf(problem, base.quantized)[from]);
      expect(permuted.errors[to]).toBe(base.errors[from]);
    });
  });

  it('does not depend on the order of the inputs within their groups', async () => {
    const problem = await layerOf({ rows: 6, inputs: 16, groupSize: 8, seed: 25 });
    const order = [3, 1, 7, 0, 5, 2, 6, 4, 12, 8, 15, 9, 14, 10, 13, 11];
    const weight = Float32Array.from(problem.weight, (_, i) => problem.weight[Math.floor(i / 16) * 16 + order[i % 16]]);
    const hessian = Float32Array.from(problem.hessian, (_, i) => problem.hessian[order[Math.floor(i / 16)] * 16 + order[i % 16]]);
    const base = await decouple(problem, published);
    const permuted = await decouple(await layerOf({ rows: 6, inputs: 16, groupSize: 8, seed: 25, weight, hessian }), published);
    const codes = base.quantized.codes.map((_, i) => base.quantized.codes[Math.floor(i / 16) * 16 + order[i % 16]]);
    expect(permuted.quantized.codes).toEqual(codes);
    permuted.quantized.scale.forEach((s, g) => {
      expect(s / base.quantized.scale[g]).toBeCloseTo(1, 4);
    });
  });

  it('without correlations GPTQ rounds to nearest, and the alternation fits a uniform quantizer to each group (Lloyd)', async () => {
    const hessian = Float32Array.from({ length: 256 }, (_, i) => (i % 17 === 0 ? 1 + (i % 3) : 0));
    const problem = await layerOf({ rows: 5, inputs: 16, groupSize: 8, seed: 26, hessian });
    const scales = coveringScales(problem, 'float32');
    const codes = await gptqCodes(problem.backend, problem.factor, problem.weight, { ...problem, ...scales });
    expect(codes).toEqual(roundToGrid(problem.weight, { ...problem, ...scales }));
    const { quantized } = await decouple(problem, { ...published, iterations: 40 });
    expect(quantized.codes).toEqual(roundToGrid(problem.weight, { ...problem, ...quantized }));
    rowsOf(problem, quantized).forEach((row, r) => {
      const best = scaleStep(hessianRows(problem), weightRows(problem)[r], row.codes, 2);
      best.scale.forEach((scale, g) => {
        expect(row.scale[g]).toBeCloseTo(Math.abs(scale), 4);
      });
    });
  });

  it('a bit more, or groups of half the size, started from what was found, is never worse', async () => {
    for (const seed of [31, 32, 33]) {
      const problem = await layerOf({ rows: 6, inputs: 16, groupSize: 8, seed });
      const { quantized, errors } = await decouple(problem, published);
      const twice = (values: Float32Array): Float32Array => Float32Array.from({ length: 2 * values.length }, (_, g) => values[g >> 1]);
      const finer = await decouple(
        { ...problem, groupSize: 4 },
        { ...published, init: { ...quantized, scale: twice(quantized.scale), offset: twice(quantized.offset) } },
      );
      const wider = await decouple({ ...problem, bits: 3 }, { ...published, init: quantized });
      for (const other of [finer, wider]) {
        other.errors.forEach((error, r) => {
          expect(error).toBeLessThanOrEqual(errors[r] * (1 + 1e-5));
        });
        expect(sum([...other.errors])).toBeLessThan(sum([...errors]));
      }
    }
  });
});
