// Claims on rows made up for the purpose: each holds where it should and fails where it should.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { type ClaimVerdict, type ComputedExperiment, createRng, type ExperimentRow } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { experiments } from '../src/experiments/index.js';

function check(experiment: string, name: string, rows: readonly ExperimentRow[]): readonly ClaimVerdict[] {
  const claim = experiments.find((one) => one.name === experiment)?.claims?.find((one) => one.name === name);
  if (!claim) throw new Error(`${experiment} has no claim '${name}'`);
  return claim.check(rows);
}

const holds = (verdicts: readonly ClaimVerdict[]): boolean[] => verdicts.map((verdict) => verdict.holds);

/** Loss gaps by bits and method, as measured elsewhere on a small model; `changes` replaces some. */
function tableRows(
  changes: Readonly<Record<string, number>> = {},
  model = 'tiny',
  groups = 'per channel',
  seeds = [0, 1, 2],
): ExperimentRow[] {
  const gaps: Record<string, number> = {
    'RTN 2': 0.53,
    'GPTQ 2': 0.24,
    'GPTQ, clipped 2': 0.15,
    'decoupleQ 2': 0.107,
    'decoupleQ, block-wise 2': 0.094,
    'GPTQ 3': 0.029,
    'decoupleQ 3': 0.025,
    'GPTQ 4': 0.0078,
    'decoupleQ 4': 0.0059,
    ...changes,
  };
  return Object.entries(gaps).flatMap(([key, gap]) => {
    const at = key.lastIndexOf(' ');
    const row = { model, groups, method: key.slice(0, at), bits: Number(key.slice(at + 1)) };
    return seeds.map((seed) => ({ ...row, seed, 'loss-gap': gap * (1 + 0.01 * (seed - 1)) }));
  });
}

describe('table', () => {
  it.each([
    ['R1', 'decoupleQ 2', 0.25],
    ['R1', 'GPTQ 2', 0.54],
    ['R2', 'GPTQ 3', 0.1],
    ['R2', 'GPTQ 4', 0.02],
    ['R4-loss', 'decoupleQ, block-wise 2', 0.108],
    ['R6', 'GPTQ, clipped 2', 0.25],
    ['R6', 'GPTQ, clipped 2', 0.1],
    ['bar-layer', 'decoupleQ 2', 0.19],
    ['bar-block', 'decoupleQ, block-wise 2', 0.16],
  ])('%s holds, and fails where %s is %d', (claim, key, value) => {
    expect(holds(check('table', claim, tableRows()))).toEqual([true]);
    expect(holds(check('table', claim, tableRows({ [key]: value })))).toEqual([false]);
  });

  it('R5 compares the granularities of a model', () => {
    const coarse = tableRows();
    const fine = (ours: number) => tableRows({ 'GPTQ 2': 0.14, 'decoupleQ 2': ours }, 'tiny', 'groups of 32');
    expect(holds(check('table', 'R5', [...coarse, ...fine(0.093)]))).toEqual([true]);
    expect(holds(check('table', 'R5', [...coarse, ...fine(0.05)]))).toEqual([false]);
    expect(check('table', 'R5', coarse)).toEqual([]);
  });

  it('has stricter bars on stories15M, and none on other models', () => {
    expect(holds(check('table', 'bar-layer', tableRows({ 'decoupleQ 2': 0.13 })))).toEqual([true]);
    expect(holds(check('table', 'bar-layer', tableRows({ 'decoupleQ 2': 0.13 }, 'stories15M')))).toEqual([false]);
    expect(holds(check('table', 'bar-block', tableRows({ 'decoupleQ, block-wise 2': 0.11 }, 'stories15M')))).toEqual([false]);
    expect(check('table', 'bar-layer', tableRows({}, 'tiny-outliers'))).toEqual([]);
  });

  it('has a verdict for each model and granularity, with the mean and every seed', () => {
    const verdicts = check('table', 'R1', [...tableRows(), ...tableRows({}, 'stories15M', 'groups of 32', [0])]);
    expect(verdicts.map(({ subject }) => subject)).toEqual(['tiny, 2 bits, per channel', 'stories15M, 2 bits, groups of 32']);
    expect(verdicts[0].evidence).toContain('GPTQ 0.24 (0.238, 0.24, 0.242)');
    expect(verdicts[1].evidence).toContain('GPTQ 0.238');
  });

  it('is silent about arms that were not run, and lets no claim hold on one that failed', () => {
    const rows = tableRows();
    expect(
      check(
        'table',
        'R1',
        rows.filter(({ method }) => method !== 'GPTQ'),
      ),
    ).toEqual([]);
    const failed = rows.map((row) => (row['method'] === 'GPTQ' && row['seed'] === 1 ? { ...row, 'loss-gap': null } : row));
    for (const claim of ['R1', 'R2', 'R6', 'bar-layer', 'bar-block']) expect(holds(check('table', claim, failed))).toEqual([false]);
  });
});

describe('trace', () => {
  const steps = ['rtn', 'gptq', 'codes-0', 'scales-0', 'codes-1', 'scales-1'];
  const rowsOf = (losses: readonly number[], layer = 'q_proj'): ExperimentRow[] =>
    losses.map((loss, order) => ({ model: 'tiny', groups: 'per channel', seed: 0, layer, order, step: steps[order], loss }));
  const typical = [0.026, 0.0095, 0.0049, 0.0047, 0.0045, 0.00449];

  it('R3 holds for falling traces, whatever the order of the rows', () => {
    const rows = [...rowsOf(typical).reverse(), ...rowsOf(typical.slice(0, 4), 'k_proj')];
    const [verdict] = check('trace', 'R3', rows);
    expect(verdict).toMatchObject({ subject: 'tiny, 2 bits, per channel', holds: true });
    expect(verdict.evidence).toContain('0 of 2 traces rise');
  });

  it('R3 fails where a half-step raises the loss', () => {
    expect(holds(check('trace', 'R3', [...rowsOf(typical), ...rowsOf([0.02, 0.01, 0.0051, 0.0052], 'k_proj')]))).toEqual([false]);
  });

  it('R3 fails where the first alternation makes the lesser part of the gain, or never runs', () => {
    expect(holds(check('trace', 'R3', rowsOf([0.026, 0.0095, 0.009, 0.0085, 0.005, 0.0045])))).toEqual([false]);
    expect(holds(check('trace', 'R3', rowsOf([0.026, 0.0095])))).toEqual([false]);
  });
});

describe('blockwise', () => {
  const rowsOf = (shares: readonly number[]): ExperimentRow[] => [
    { model: 'tiny', training: 'rate 3e-4', seed: 0, block: null, 'loss-gap': 0.1 },
    ...shares.map((share, i) => ({ model: 'tiny', training: 'rate 3e-4', seed: 0, block: `model.layers.${i}`, 'block-share': share })),
  ];

  it('R4-blocks holds where every block is better than before, and fails where one is not', () => {
    expect(holds(check('blockwise', 'R4-blocks', rowsOf([0.8, 0.9, 0.99])))).toEqual([true]);
    expect(holds(check('blockwise', 'R4-blocks', rowsOf([0.8, 1, 0.99])))).toEqual([false]);
    expect(check('blockwise', 'R4-blocks', rowsOf([]))).toEqual([]);
  });
});

describe('corr', () => {
  const rowsOf = (gaps: readonly number[]): ExperimentRow[] =>
    gaps.map((gap, i) => ({
      model: 'tiny',
      seed: 0,
      bits: 2,
      groups: 'per channel',
      method: `arm ${i}`,
      'layer-error': 0.1 * (i + 1),
      'loss-gap': gap,
    }));

  it('the counter-claim needs a pair in the opposite order, and names the widest', () => {
    expect(holds(check('corr', 'counter-claim', rowsOf([0.1, 0.2, 0.3, 0.4])))).toEqual([false]);
    const [verdict] = check('corr', 'counter-claim', rowsOf([0.1, 0.21, 0.2, 0.4]));
    expect(verdict.holds).toBe(true);
    expect(verdict.evidence).toContain('0.8; 1 of 6');
    expect(verdict.evidence).toContain('arm 1 per channel has layer error 0.2 and adds 0.21');
  });
});

describe('bruteforce', () => {
  const rowsOf = (ratios: readonly number[], overGptq: readonly number[]): ExperimentRow[] => [
    { seed: 0, method: 'decoupleQ', row: null, 'share at the optimum': 0.1 },
    ...ratios.map((ratio, row) => ({ seed: 0, method: 'decoupleQ', row, ratio, 'over-gptq': overGptq[row] })),
  ];

  it('asks for the optimum in half of the rows', () => {
    expect(holds(check('bruteforce', 'optimum', rowsOf([1, 3, 1.0001, 2], [1, 1, 1, 1])))).toEqual([true]);
    expect(holds(check('bruteforce', 'optimum', rowsOf([1, 3, 1.1, 2], [1, 1, 1, 1])))).toEqual([false]);
  });

  it('asks for an error no larger than that of GPTQ in every row', () => {
    expect(holds(check('bruteforce', 'never-worse', rowsOf([1, 1], [1, 0.2])))).toEqual([true]);
    expect(holds(check('bruteforce', 'never-worse', rowsOf([1, 1], [0.2, 1.01])))).toEqual([false]);
  });

  it('is within both on the rows that it computes', async () => {
    const experiment = experiments.find(({ name }) => name === 'bruteforce') as ComputedExperiment;
    const done: number[] = [];
    const context = { backend: createReferenceBackend(), rng: createRng(0), progress: (count: number) => done.push(count) };
    const rows = (await experiment.compute(context)).map((row): ExperimentRow => ({ seed: 0, ...row }));
    expect(done).toEqual([0, 1]);
    const summaries = rows.filter(({ row }) => row === null);
    expect(summaries.map(({ method }) => method)).toEqual(expect.arrayContaining(['RTN', 'GPTQ', 'decoupleQ']));
    const single = rows.filter(({ row }) => row !== null);
    expect(single).toHaveLength(5 * 200);
    for (const row of single) expect(row).toMatchObject({ ratio: expect.toSatisfy((ratio: number) => ratio > 1 - 1e-5) });
    for (const claim of ['optimum', 'never-worse']) expect(holds(check('bruteforce', claim, rows))).toEqual([true]); // 57 %; at most 0.996
  });

  it('ends when it is told to', async () => {
    const experiment = experiments.find(({ name }) => name === 'bruteforce') as ComputedExperiment;
    const context = { backend: createReferenceBackend(), rng: createRng(0), signal: AbortSignal.abort() };
    await expect(experiment.compute(context)).rejects.toMatchObject({ code: 'ABORTED' });
  });
});
