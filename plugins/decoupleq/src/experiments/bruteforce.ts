// Small rows solved exactly: how far from the optimum each method ends.
import {
  type ClaimVerdict,
  type ComputedExperiment,
  type ExperimentClaim,
  type ExperimentContext,
  type ExperimentRow,
  throwIfAborted,
} from '@lowbit/core';
import { type BruteForceRow, type BruteForceStudy, bruteForceStudy } from '../brute-force.js';
import { shadeOf } from './figure.js';
import { mean, numberOf, rowsWhere, settingsOf, show, subjectOf } from './samples.js';

const study = { rows: 200, inputs: 5, bits: 2 } as const;

/** What decoupleQ is run with, each on the same rows. */
const variants: Readonly<Record<string, NonNullable<BruteForceStudy['options']>>> = {
  decoupleQ: {},
  'decoupleQ, GPTQ codes': { codeStep: 'gptq', search: 'full' },
};

/** Names of the others, and where the study has their errors. */
const others = { RTN: 'nearest', GPTQ: 'gptq', 'best codes on the covering grid': 'fixedOptimum' } as const;

/** Ratios up to here are what rounding of scales to float32 makes of 1. */
const SAME = 1.001;

function rowOf(method: string, error: number, gptq: number, optimum: number, row: number): ExperimentRow {
  return { method, row, ratio: error / optimum, 'over-gptq': error / gptq };
}

/** A row about all rows of a method. */
function summaryOf(method: string, rows: readonly ExperimentRow[]): ExperimentRow {
  const ratios = rows.map((row) => numberOf(row['ratio'])).sort((a, b) => a - b);
  // The optimum itself comes out within rounding errors of 1.
  const quantile = (share: number): number => Number(ratios[Math.ceil(share * ratios.length) - 1].toPrecision(6));
  return {
    method,
    row: null,
    'share at the optimum': optimalShare(rows),
    'median ratio': quantile(0.5),
    '90 % of ratios up to': quantile(0.9),
    'over GPTQ, mean': mean(rows.map((row) => numberOf(row['over-gptq']))),
  };
}

function optimalShare(rows: readonly ExperimentRow[]): number {
  return mean(rows.map((row) => (numberOf(row['ratio']) <= SAME ? 1 : 0)));
}

async function compute({ backend, rng, signal, progress }: ExperimentContext): Promise<ExperimentRow[]> {
  const found: ExperimentRow[] = [];
  let last: readonly BruteForceRow[] = [];
  for (const [done, [method, options]] of Object.entries(variants).entries()) {
    throwIfAborted(signal);
    progress?.(done, Object.keys(variants).length);
    last = await bruteForceStudy({ backend, rng, ...study, options });
    found.push(...last.map(({ decoupleq, gptq, optimum }, row) => rowOf(method, decoupleq, gptq, optimum, row)));
  }
  const baselines = Object.entries(others).flatMap(([method, field]) =>
    last.map((one, row) => rowOf(method, one[field], one.gptq, one.optimum, row)),
  );
  const all = [...baselines, ...found];
  const summaries = settingsOf(all, ['method']).map(({ method }) => summaryOf(String(method), rowsWhere(all, { method })));
  return [...summaries, ...all];
}

/** Share of the rows in which the alternation must end at the global optimum. */
const HALF = 0.5;

/** A claim about the errors of one method, over all rows with one seed. */
function aboutRows(
  name: string,
  statement: string,
  judge: (rows: readonly ExperimentRow[]) => Omit<ClaimVerdict, 'subject'>,
): ExperimentClaim {
  return {
    name,
    statement,
    check: (rows) =>
      settingsOf(rowsWhere(rows, { method: 'decoupleQ' }), ['method', 'seed']).map((setting) => {
        const ours = rowsWhere(rows, setting).filter(({ row }) => row !== null);
        return { subject: subjectOf(setting['method'], `seed ${setting['seed']}`, `${ours.length} rows`), ...judge(ours) };
      }),
  };
}

const findsOptimum = aboutRows('optimum', `The alternation ends at the global optimum in at least ${100 * HALF} % of the rows`, (rows) => {
  const share = optimalShare(rows);
  return { holds: share >= HALF, evidence: `${show(100 * share)} %` };
});

const neverWorse = aboutRows('never-worse', 'In no row is the error larger than that of GPTQ', (rows) => {
  const ratios = rows.map((row) => numberOf(row['over-gptq']));
  const worst = Math.max(...ratios);
  return { holds: worst <= SAME, evidence: `error over GPTQ's: at most ${show(worst)}, ${show(mean(ratios))} on average` };
});

export const bruteforce: ComputedExperiment = {
  name: 'bruteforce',
  title: 'Random rows of 5 inputs at 2 bits against the global optimum',
  description:
    'For rows as short as these all codes can be tried, each with its best scale and offset. Normal weights, correlated inputs; ten rows share their inputs. The ratio is the error over the least there is: 1 is the ' +
    'optimum. Look at the best codes on the covering grid as well: there the ratio stays near that of GPTQ, so at 2 bits freeing scale and offset is worth more than better rounding.',
  source: 'arXiv 2404.12759, the constrained program, solved exactly',
  compute,
  table: { rows: ['method'], values: ['share at the optimum', 'median ratio', '90 % of ratios up to', 'over GPTQ, mean'] },
  figure: {
    width: 480,
    height: 280,
    transform: [
      { filter: 'isValid(datum.ratio)' },
      { window: [{ op: 'cume_dist', as: 'share' }], sort: [{ field: 'ratio' }], groupby: ['method', 'seed'] },
      // Beyond this the curves are flat, and one row with an error of nearly 0 would squeeze the others.
      { filter: 'datum.ratio <= 100' },
    ],
    mark: { type: 'line', interpolate: 'step-after' },
    encoding: {
      x: { field: 'ratio', type: 'quantitative', scale: { type: 'log' }, title: 'error over the least there is' },
      y: { field: 'share', type: 'quantitative', title: 'share of rows with at most this', scale: { domain: [0, 1] } },
      color: shadeOf({ field: 'method', title: 'method', sort: [...Object.keys(others), ...Object.keys(variants)] }),
      detail: { field: 'seed' },
    },
  },
  claims: [findsOptimum, neverWorse],
};
