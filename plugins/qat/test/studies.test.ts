// Studies on a toy model in a bowl: what they measure is known.
import type { ClaimVerdict, ExperimentArm, ExperimentRow, StudyExperiment } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { landscape } from '../src/experiments/landscape.js';
import { misalign } from '../src/experiments/misalign.js';
import { plane } from '../src/experiments/plane.js';
import { radius } from '../src/experiments/radius.js';
import { partsOf, sensitivity } from '../src/experiments/sensitivity.js';
import { inCell, STEEPNESS, type StudySetting, studySetting } from './study-setting.js';

const studies = [landscape, plane, radius, sensitivity, misalign];

interface Studied extends StudySetting {
  readonly rows: readonly ExperimentRow[];
}

/** Rows of one arm, the groups of its steps such that they divide the toy's widths. */
async function studied(experiment: StudyExperiment, isMeant: (arm: ExperimentArm) => boolean = () => true): Promise<Studied> {
  const found = experiment.arms.find(isMeant);
  if (!found) throw new Error(`${experiment.name} has no such arm`);
  const setting = await studySetting(found);
  return { ...setting, rows: inCell(await experiment.study(setting.context), found) };
}

const of = (bits: number, method: string) => (arm: ExperimentArm) =>
  arm.parameters?.['bits'] === bits && arm.parameters['method'] === method;

function check(experiment: StudyExperiment, name: string, rows: readonly ExperimentRow[]): readonly ClaimVerdict[] {
  const claim = experiment.claims?.find((one) => one.name === name);
  if (!claim) throw new Error(`${experiment.name} has no claim '${name}'`);
  return claim.check(rows);
}

const numbers = (rows: readonly ExperimentRow[], field: string): number[] => rows.map((row) => Number(row[field]));
const having = (rows: readonly ExperimentRow[], field: string): ExperimentRow[] => rows.filter((row) => row[field] !== undefined);

/** Every value of `field` in a specification. */
function fieldsOf(specification: unknown): string[] {
  if (typeof specification !== 'object' || specification === null) return [];
  return Object.entries(specification).flatMap(([key, value]) =>
    key === 'field' && typeof value === 'string' ? [value] : fieldsOf(value),
  );
}

describe.each(studies.map((one) => [one.name, one] as const))('%s', (_, experiment) => {
  it('says what it shows and where it comes from, and has arms that can be told apart', () => {
    expect(experiment.title.length).toBeGreaterThan(20);
    expect(experiment.description.length).toBeGreaterThan(200);
    expect(experiment.source).toMatch(/arXiv \d{4}\.\d{5}/);
    expect(new Set(experiment.arms.map(({ name }) => name)).size).toBe(experiment.arms.length);
    expect(JSON.parse(JSON.stringify(experiment.figure))).toEqual(experiment.figure);
  });

  it('draws and prints what its rows have', async () => {
    const { rows } = await studied(experiment);
    const scores = experiment.evaluators?.includes('layer-error') ? ['layer-error'] : [];
    const known = new Set([...rows.flatMap((row) => Object.keys(row)), ...scores]);
    const { table, figure } = experiment;
    const shown = [...table.rows, ...table.values, ...fieldsOf(figure)];
    expect(shown.filter((field) => !known.has(field))).toEqual([]);
  });
});

describe('landscape', () => {
  it('measures the bowl along each line', async () => {
    const { rows } = await studied(landscape, of(2, 'RTN'));
    const [summary, ...line] = rows;
    expect(numbers(line, 'alpha')).toEqual([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5]);
    const distance = Number(summary['distance']);
    expect(distance).toBeGreaterThan(0.1);
    for (const { alpha, radius, 'loss-gap': gap } of line) {
      expect(Number(radius)).toBeCloseTo(Number(alpha) * distance, 9);
      expect(Number(gap)).toBeCloseTo(STEEPNESS * Number(radius) ** 2, 5);
    }
    expect(summary).toMatchObject({
      bits: 2,
      method: 'RTN',
      steepness: expect.closeTo(STEEPNESS, 3) as number,
      'α = 1': line[4]['loss-gap'],
    });
  });

  it('begins each line with the dense model and ends it with the one that was judged', async () => {
    const { rows, context, judged } = await studied(landscape, of(3, 'QAT from rounding'));
    expect(rows.find(({ alpha }) => alpha === 1)?.['loss-gap']).toBe(context.outcome.scores['loss-gap']);
    expect(rows.find(({ alpha }) => alpha === 0)).toMatchObject({ radius: 0, 'loss-gap': 0 });
    expect(judged()).toBe(7);
    expect(check(landscape, 'ends', rows)).toMatchObject([{ subject: 'toy', holds: true }]);
    for (const alpha of [0, 1]) {
      const off = rows.map((row) => (row['alpha'] === alpha ? { ...row, 'loss-gap': Number(row['loss-gap']) - 2e-4 } : row));
      expect(check(landscape, 'ends', off), `α = ${alpha}`).toMatchObject([{ holds: false }]);
    }
    expect(check(landscape, 'ends', [])).toEqual([]);
  });

  it('Q3-smooth asks that every step of every line rises', async () => {
    const { rows } = await studied(landscape, of(2, 'RTN'));
    const found = check(landscape, 'Q3-smooth', rows);
    expect(found).toMatchObject([{ subject: 'toy, 2 bits, RTN', holds: true }]);
    expect(found[0].evidence).toMatch(/^the smallest of 6 rises 0\.\d/);
    const gapAt = (alpha: number): number => Number(rows.find((row) => row['alpha'] === alpha)?.['loss-gap']);
    const bumpy = rows.map((row) => (row['alpha'] === 0.5 ? { ...row, 'loss-gap': gapAt(0.75) } : row));
    expect(check(landscape, 'Q3-smooth', bumpy)).toMatchObject([{ holds: false }]);
    expect(
      check(
        landscape,
        'Q3-smooth',
        rows.filter((row) => row['alpha'] !== 1.5),
      ),
    ).toEqual([]);
  });

  it('Q3-steep compares at the distance of rounding', () => {
    const line = (method: string, end: number, steepness: number, seed: number): ExperimentRow[] =>
      [0, 0.5, 1, 1.5].map((alpha) => {
        const radius = alpha * end;
        return { model: 'toy', bits: 2, method, seed, alpha, radius, 'loss-gap': steepness * radius ** 2 };
      });
    const verdict = (trained: readonly [end: number, steepness: number][]): readonly ClaimVerdict[] => {
      const rows = trained.flatMap(([end, steepness], seed) => [
        ...line('RTN', 0.5, 2, seed),
        ...line('QAT from rounding', end, steepness, seed),
      ]);
      return check(landscape, 'Q3-steep', rows);
    };
    const [found] = verdict([[0.55, 0.6]]);
    expect(found).toMatchObject({ subject: 'toy, 2 bits', holds: true });
    expect(found.evidence).toBe('at 0.5 of the norm: QAT 0.15, RTN 0.5; QAT ends at 0.55');
    // Nearer and less loss, and yet steeper.
    expect(verdict([[0.4, 2.1]])).toMatchObject([{ holds: false }]);
    expect(
      verdict([
        [0.55, 0.6],
        [0.55, 2.1],
      ]),
    ).toMatchObject([{ holds: false }]);
    // Too short to reach that far.
    expect(verdict([[0.3, 0.6]])).toMatchObject([{ holds: false }]);
    expect(check(landscape, 'Q3-steep', line('RTN', 0.5, 2, 0))).toEqual([]);
  });
});

describe('plane', () => {
  it('measures the bowl on a grid around its corners', async () => {
    const { rows, recipes } = await studied(plane);
    expect(recipes.map(([{ method, options }]) => [method, options?.['bits']])).toEqual([['gptq', 2]]);
    const corners = having(rows, 'point');
    expect(corners.map(({ point }) => point)).toEqual(['dense', 'GPTQ', 'QAT', 'half way from GPTQ to QAT']);
    for (const { x, y, distance, 'loss-gap': gap } of corners) {
      expect(Math.hypot(Number(x), Number(y))).toBeCloseTo(Number(distance), 12);
      expect(Number(gap)).toBeCloseTo(STEEPNESS * Number(distance) ** 2, 5);
    }
    const cells = having(rows, 'left');
    expect(cells).toHaveLength(81);
    for (const { left, right, low, high, 'loss-gap': gap } of cells) {
      const [x, y] = [(Number(left) + Number(right)) / 2, (Number(low) + Number(high)) / 2];
      expect(Number(gap)).toBeCloseTo(STEEPNESS * (x ** 2 + y ** 2), 4);
    }
    for (const [edges, at] of [
      ['left', 'x'],
      ['low', 'y'],
    ] as const) {
      expect(Math.min(...numbers(cells, edges))).toBeLessThan(Math.min(...numbers(corners, at)));
    }
    for (const [edges, at] of [
      ['right', 'x'],
      ['high', 'y'],
    ] as const) {
      expect(Math.max(...numbers(cells, edges))).toBeGreaterThan(Math.max(...numbers(corners, at)));
    }
  });
});

describe('radius', () => {
  it('finds that of the bowl, and how far rounding goes', async () => {
    const { rows } = await studied(radius);
    const basin = Math.sqrt(0.05 / STEEPNESS);
    const rounded = having(rows, 'bits');
    expect(numbers(rounded, 'bits')).toEqual([8, 6, 5, 4, 3, 2]);
    for (const { R, rho, distance, ...adds } of rounded) {
      expect(Number(R)).toBeCloseTo(basin, 4);
      expect(Number(rho)).toBeCloseTo(Number(distance) / basin, 3);
      for (const gap of [adds['RTN adds'], adds['random adds']]) expect(Number(gap)).toBeCloseTo(STEEPNESS * Number(distance) ** 2, 4);
    }
    const basins = having(rows, 'tau');
    for (const { tau, R, 'half way': share } of basins) {
      expect(Number(R)).toBeCloseTo(Math.sqrt(Number(tau) / STEEPNESS), 4);
      expect(Number(share)).toBeCloseTo(0.25, 3);
    }
    expect(having(rows, 'draw')).toHaveLength(8 * 8);
    expect(check(radius, 'Q3-flat', rows)).toMatchObject([{ subject: 'toy', holds: true }]);
    expect(check(radius, 'Q3-doubling', rows)).toMatchObject([{ holds: true }]);
  });

  const rowsOf = (distances: readonly number[], R: number, share = 0.25, seed = 0): ExperimentRow[] => [
    ...distances.map((distance, i) => ({ model: 'toy', seed, bits: 6 - i, distance, R, rho: distance / R })),
    { model: 'toy', seed, tau: 0.05, R, 'half way': share },
  ];
  const far = [0.02, 0.04, 0.09, 0.19, 0.45];

  it.each([
    ['Q3-basin', rowsOf(far, 0.17), true],
    ['Q3-basin', [...rowsOf(far, 0.17), ...rowsOf(far, 0.46, 0.25, 1)], false],
    ['Q3-basin', rowsOf(far, 0.03), false],
    ['Q3-doubling', rowsOf(far, 0.17), true],
    ['Q3-doubling', rowsOf([0.02, 0.04, 0.09, 0.14, 0.3], 0.17), false],
    ['Q3-doubling', rowsOf([0.02, 0.04, 0.09, 0.24, 0.5], 0.17), false],
    ['Q3-flat', rowsOf(far, 0.17, 0.33), true],
    ['Q3-flat', rowsOf(far, 0.17, 0.34), false],
    ['Q3-flat', rowsOf(far, 0.17, Number.NaN), false],
  ] as const)('%s is decided by every seed (%#)', (name, rows, holds) => {
    expect(check(radius, name, rows).map((verdict) => verdict.holds)).toEqual([holds]);
  });
});

describe('sensitivity', () => {
  it('takes one Linear or block at a time, and in a bowl they add up', async () => {
    const { rows, context, recipes, dense, texts } = await studied(sensitivity);
    const { quantized, outcome } = context;
    // Local errors, 14 Linears and 2 blocks alone, and all of them are for choosing; the six that are trained are judged.
    expect(texts).toEqual([...new Array<string>(18).fill('calibration'), ...new Array<string>(6).fill('held-out')]);
    const parts = partsOf(dense, quantized);
    const linears = rows.filter(({ unit }) => unit === 'Linear');
    expect(linears).toHaveLength(14);
    expect(linears.map(({ path }) => path)).toEqual(parts.filter(({ unit }) => unit === 'Linear').map(({ path }) => path));
    for (const block of dense.blocks) {
      const own = numbers(
        linears.filter(({ path }) => String(path).startsWith(block.path)),
        'divergence',
      );
      const whole = rows.find(({ path }) => path === block.path)?.['divergence'];
      expect(own.reduce((a, b) => a + b)).toBeCloseTo(Number(whole), 6);
    }
    const untrained = rows.find(({ trained }) => trained === 'none');
    expect(untrained).toMatchObject({ 'loss-gap': outcome.scores['loss-gap'], 'sum over the whole': expect.closeTo(1, 5) as number });
    expect(untrained?.['rank correlation']).toBeLessThanOrEqual(1);

    const targetsOf = (recipe: number): readonly string[] => recipes[recipe][1].options?.['targets'] as readonly string[];
    const byCost = linears.toSorted((a, b) => Number(b['divergence']) - Number(a['divergence'])).map(({ path }) => path);
    const byError = linears.toSorted((a, b) => Number(b['layer-error']) - Number(a['layer-error'])).map(({ path }) => path);
    expect(targetsOf(0)).toEqual(byCost.slice(0, 4));
    expect(targetsOf(1)).toEqual(byError.slice(0, 4));
    expect(targetsOf(3)).toEqual(byCost.slice(0, 7));
    expect(targetsOf(4).slice(0, 4)).toEqual(targetsOf(2));
    expect(targetsOf(5)).toEqual(['**']);
    for (const [first, second] of recipes) {
      expect([first.method, second.method]).toEqual(['gptq', 'qat']);
      expect(first).toEqual(context.outcome.arm.recipe[0]);
    }
  });

  it('leaves the other parts as they are', async () => {
    const { context, dense } = await studied(sensitivity);
    const [query] = partsOf(dense, context.quantized);
    expect(query.path).toBe('model.layers.0.self_attn.q_proj');
    expect(query.model.blocks[0].linears['self_attn.q_proj']).toBe(context.quantized.blocks[0].linears['self_attn.q_proj']);
    expect(query.model.blocks[0].linears['self_attn.k_proj']).toBe(dense.blocks[0].linears['self_attn.k_proj']);
    expect(query.model.blocks[1]).toBe(dense.blocks[1]);
  });

  it('worst-first asks that choosing pays', async () => {
    const { rows } = await studied(sensitivity);
    const verdicts = check(sensitivity, 'worst-first', rows);
    expect(verdicts).toMatchObject([{ subject: 'toy', holds: true }]);
    const worse = rows.map((row) => (row['trained'] === 'largest divergence' && row['share'] === 0.25 ? { ...row, 'loss-gap': 9 } : row));
    expect(check(sensitivity, 'worst-first', worse)).toMatchObject([{ holds: false }]);
  });
});

describe('misalign', () => {
  it('has scores and distance of each arm', async () => {
    const { rows, context } = await studied(misalign, of(3, 'GPTQ'));
    const distance = Math.sqrt(context.outcome.scores['kl'] / STEEPNESS);
    expect(rows).toMatchObject([{ bits: 3, method: 'GPTQ', ...context.outcome.scores, distance: expect.closeTo(distance, 9) as number }]);
  });

  const rowsOf = (bits: number, found: Readonly<Record<string, readonly [error: number, gap: number]>>, seed = 0): ExperimentRow[] =>
    Object.entries(found).map(([method, [error, gap]]) => ({ model: 'toy', seed, bits, method, 'layer-error': error, 'loss-gap': gap }));
  const expected = {
    RTN: [0.074, 0.47],
    GPTQ: [0.036, 0.24],
    'GPTQ, clipped': [0.034, 0.22],
    decoupleQ: [0.02, 0.11],
    'QAT from rounding': [0.075, 0.12],
    'decoupleQ + QAT': [0.03, 0.07],
  } as const;
  const methods = Object.keys(expected);
  const holds = (name: string, rows: readonly ExperimentRow[]): boolean[] => check(misalign, name, rows).map((verdict) => verdict.holds);

  it('Q2 asks for twice the error and less loss, in every seed', () => {
    const rows = rowsOf(2, expected);
    expect(holds('Q2', rows)).toEqual([true]);
    expect(holds('Q2', [...rows, ...rowsOf(2, { ...expected, 'QAT from rounding': [0.071, 0.12] }, 1)])).toEqual([false]);
    expect(holds('Q2', rowsOf(2, { ...expected, 'QAT from rounding': [0.075, 0.25] }))).toEqual([false]);
    expect(holds('Q2', rowsOf(4, expected))).toEqual([]);
  });

  it('Q2-methods wants two methods out of order in every seed, the same two', () => {
    const swapped = (a: string, b: string, seed: number) => {
      const values = methods.map(
        (method, i) => [method, [i, method === a ? methods.indexOf(b) : method === b ? methods.indexOf(a) : i]] as const,
      );
      return rowsOf(2, Object.fromEntries(values) as Record<string, readonly [number, number]>, seed);
    };
    expect(holds('Q2-methods', [...swapped('RTN', 'GPTQ', 0), ...swapped('RTN', 'GPTQ', 1)])).toEqual([true]);
    expect(holds('Q2-methods', [...swapped('RTN', 'GPTQ', 0), ...swapped('decoupleQ', 'QAT from rounding', 1)])).toEqual([false]);
  });

  it('Q2-methods finds an order that is not the same, and Q2-bits one that is', () => {
    expect(holds('Q2-methods', rowsOf(2, expected))).toEqual([true]);
    const [{ evidence }] = check(misalign, 'Q2-methods', rowsOf(2, expected));
    expect(evidence).toBe(
      'Spearman 0.6; less loss at more error: QAT from rounding < RTN, QAT from rounding < GPTQ, QAT from rounding < GPTQ, clipped, decoupleQ + QAT < decoupleQ',
    );
    const aligned = Object.fromEntries(Object.keys(expected).map((method, i) => [method, [i, i] as const]));
    expect(holds('Q2-methods', rowsOf(2, aligned))).toEqual([false]);
    const halved = (by: number) => Object.fromEntries(Object.entries(expected).map(([m, [e, g]]) => [m, [e / by, g / by] as const]));
    const rows = [...rowsOf(2, expected), ...rowsOf(3, halved(4)), ...rowsOf(4, halved(20))];
    expect(holds('Q2-bits', rows)).toEqual(Object.keys(expected).map(() => true));
    const [first, ...others] = rows;
    expect(holds('Q2-bits', [{ ...first, 'loss-gap': 0.001 }, ...others])).toEqual([false, true, true, true, true, true]);
    const second = [...rowsOf(2, expected, 1), ...rowsOf(3, halved(4), 1), ...rowsOf(4, halved(20), 1)];
    expect(holds('Q2-bits', [...rows, { ...second[0], 'loss-gap': 0.001 }, ...second.slice(1)])).toEqual([
      false,
      true,
      true,
      true,
      true,
      true,
    ]);
  });
});
