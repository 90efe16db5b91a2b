// What rounding a direction does to an estimate: its mean along the gradient, and how much of it is signal.
import {
  type ClaimVerdict,
  type ComputedExperiment,
  type ExperimentClaim,
  type ExperimentContext,
  type ExperimentRow,
  roundHalfEven,
  throwIfAborted,
} from '@lowbit/core';
import { logarithmic, numberOf, show } from '@lowbit/core/experiments';
import { directionOf } from '../direction/direction.js';
import { createDraws } from '../direction/keys.js';
import type { Draws, Parameter } from '../hooks.js';
import { dot, freshScratch, parameterOf, runSeedOf } from './draws.js';

/** A grid that directions are rounded to. */
export interface Grid {
  readonly grid: 'float' | 'codes';
  readonly distribution: 'gaussian' | 'rademacher';
  /** Bits of the grid that the largest element of the tensor spans; codes: σ. */
  readonly fineness: number;
  readonly elements: number;
  readonly queries: number;
}

const SIZE = 2048;
const QUERIES = 1000;
const sigmas = [0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 4];

const grids: readonly Grid[] = [
  ...[8, 4, 3, 2].map((fineness): Grid => ({ grid: 'float', distribution: 'gaussian', fineness, elements: SIZE, queries: QUERIES })),
  { grid: 'float', distribution: 'gaussian', fineness: 4, elements: 2 ** 20, queries: 8 },
  ...(['gaussian', 'rademacher'] as const).flatMap((distribution) =>
    sigmas.map((fineness): Grid => ({ grid: 'codes', distribution, fineness, elements: SIZE, queries: QUERIES })),
  ),
];

/** Estimators in the order of the figure. */
const estimators = ['mezo', 'rge1', 'rge1-debiased', 'rge2', 'nearest'] as const;
type EstimatorName = (typeof estimators)[number];

/** What a query adds to the moments of ĝ = (g·p) f, with p the direction of the losses and f that of the update. */
interface Share {
  /** p·f / d: the mean of ĝ·g over gradients g of length 1 in all directions. */
  readonly along: number;
  /** ‖p‖² ‖f‖² / d: the mean of ‖ĝ‖². */
  readonly energy: number;
}

function share(p: Float64Array, f: Float64Array): Share {
  return { along: dot(p, f) / p.length, energy: (dot(p, p) * dot(f, f)) / p.length };
}

/** One direction in the ways that the estimators round it, and the second moment that the plugin states of it. */
function draw({ grid, distribution, fineness }: Grid, parameter: Parameter, draws: Draws) {
  const take = (isRounded: boolean, stream: 'round1' | 'round2') => {
    const { values, factor, secondMoment } = directionOf({ distribution, isRounded })(parameter, draws, stream, freshScratch);
    return { elements: Float64Array.from(values, (value) => value * factor), secondMoment };
  };
  const u = take(false, 'round1').elements;
  const { elements: q1, secondMoment: s } = take(true, 'round1');
  const q2 = take(true, 'round2').elements;
  const perUnit = grid === 'codes' ? fineness : (2 ** (fineness - 1) - 1) / u.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const nearest = u.map((x) => roundHalfEven(x * perUnit) / perUnit);
  const once = share(q1, q1);
  const shares: Readonly<Record<EstimatorName, Share>> = {
    mezo: share(u, u),
    rge1: once,
    'rge1-debiased': { along: once.along / s, energy: once.energy / s ** 2 },
    rge2: share(q1, q2),
    nearest: share(nearest, nearest),
  };
  return { s, shares };
}

function momentsOf(shares: readonly Share[], elements: number) {
  const along = mean(shares.map((one) => one.along));
  const energy = mean(shares.map((one) => one.energy));
  const variance = mean(shares.map((one) => (one.along - along) ** 2));
  return {
    along,
    'standard error': Math.sqrt(variance / (shares.length - 1)),
    d·SNR: energy === 0 ? 0 : (elements * along ** 2) / energy,
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** What the algebra says of an estimator whose rounded directions have the second moment s. */
const expected: Readonly<Record<EstimatorName, ((s: number) => { along: number; signal: number }) | undefined>> = {
  mezo: () => ({ along: 1, signal: 1 }),
  rge1: (s) => ({ along: s, signal: 1 }),
  'rge1-debiased': () => ({ along: 1, signal: 1 }),
  rge2: (s) => ({ along: 1, signal: 1 / s ** 2 }),
  nearest: undefined,
};

/** A row for each estimator. */
export function biasRows(given: Grid, root: Draws): ExperimentRow[] {
  const { queries, ...grid } = given;
  const { fineness, elements, distribution } = grid;
  const isOfCodes = grid.grid === 'codes';
  const setting = `${isOfCodes ? `codes, σ = ${fineness}` : `${fineness} bits, ${elements} elements`}, ${distribution}`;
  const settings = isOfCodes ? { epsilon: fineness } : { perturbBits: fineness };
  const parameter = parameterOf(setting, isOfCodes ? 'codes' : 'weights', elements, settings);
  const drawn = Array.from({ length: queries }, (_, query) => draw(given, parameter, root.at(query + 1, 0)));
  const s = mean(drawn.map((one) => one.s));
  return estimators.map((estimator): ExperimentRow => {
    const moments = momentsOf(
      drawn.map(({ shares }) => shares[estimator]),
      elements,
    );
    const closed = expected[estimator]?.(s);
    return {
      ...{ ...grid, setting, estimator, ...moments },
      ...(closed && { s, 'along, closed form': closed.along, 'd·SNR, closed form': closed.signal }),
    };
  });
}

async function compute({ rng, signal, progress }: ExperimentContext): Promise<ExperimentRow[]> {
  const root = createDraws(runSeedOf(rng));
  return grids.flatMap((grid, index) => {
    throwIfAborted(signal);
    progress?.(index, grids.length);
    return biasRows(grid, root);
  });
}

/** Standard errors. */
const ERRORS = 4;

/** A bias that could hide behind them in any row. */
function detectable(rows: readonly ExperimentRow[]): number {
  return Math.max(...rows.map((row) => ERRORS * numberOf(row['standard error']) * (1 / numberOf(row['along, closed form']))));
}

/** One verdict on all grids of a distribution. */
function onGrids(
  rows: readonly ExperimentRow[],
  estimator: EstimatorName,
  judge: (row: ExperimentRow) => boolean,
  describe: (rows: readonly ExperimentRow[]) => string,
): ClaimVerdict[] {
  const kinds = [...new Set(grids.map(({ grid, distribution }) => `${grid} ${distribution}`))];
  return kinds.flatMap((kind) => {
    const own = rows.filter((row) => row['estimator'] === estimator && `${row['grid']} ${row['distribution']}` === kind);
    if (own.length === 0) return [];
    const off = own.filter((row) => !judge(row));
    const detail = off.map((row) => `${row['setting']}: ${show(numberOf(row['along']))}, ${show(numberOf(row['d·SNR']))}`);
    return [{ subject: kind.replace(' ', ', '), holds: off.length === 0, evidence: [describe(own), ...detail].join('; ') }];
  });
}

/** Whether the mean is the one in closed form, up to what the largest element of a tensor, which is drawn too, leaves open. */
function isUnbiased(row: ExperimentRow): boolean {
  const closed = numberOf(row['along, closed form']);
  return Math.abs(numberOf(row['along']) - closed) <= ERRORS * numberOf(row['standard error']);
}

function unbiased(estimator: EstimatorName, statement: string): ExperimentClaim {
  return {
    name: `B1-${estimator}`,
    statement: `${statement}, within ${ERRORS} standard errors`,
    check: (rows) =>
      onGrids(
        rows,
        estimator,
        isUnbiased,
        (own) => `${own.length} grids; a relative bias of ${show(detectable(own))} would have shown in all`,
      ),
  };
}

/** Of a ratio of signal to noise: kurtosis of q adds E[q⁴]/(d s²), largest where flips are rarest. */
const CLOSE = 0.2;

const noise: ExperimentClaim = {
  name: 'B1-noise',
  statement: `rge2 has the signal-to-noise ratio of rge1 divided by s², within ${100 * CLOSE} %`,
  check: (rows) =>
    rows
      .filter((row) => row['estimator'] === 'rge2')
      .flatMap((row): ClaimVerdict[] => {
        const once = rows.find((other) => other['estimator'] === 'rge1' && other['setting'] === row['setting']);
        if (!once) return [];
        const ratio = numberOf(row['d·SNR']) / numberOf(once['d·SNR']);
        const closed = numberOf(row['s']) ** -2;
        return [
          {
            subject: String(row['setting']),
            holds: Math.abs(ratio / closed - 1) <= CLOSE,
            evidence: `${show(ratio)}, 1/s² is ${show(closed)}`,
          },
        ];
      }),
};

export const bias: ComputedExperiment = {
  name: 'bias',
  title: 'Bias and signal-to-noise ratio of estimates with rounded directions',
  description:
    `The plugin's own directions are drawn (${SIZE} elements, ${QUERIES} queries) and rounded to few bits of the range of their tensor, or to whole codes at the perturbation size σ. The loss is linear: its gradient is averaged over all directions in closed form. ` +
    'Shown are s, the second moment that rounding gives a direction of unit variance; the mean of the estimate along the gradient, 1 being unbiased; and d times the ratio of the squared mean to the mean square, 1 being what MeZO has with one query. ' +
    'rge1 (one rounding for loss and update) is too long by the factor s, which is known; rge2 (another rounding for the update, the published rule) has the right length and s² times less signal in its noise. On codes that move by a tenth of a step the second rounding hits other elements than the first, and next to nothing of the signal is left. ' +
    'Rademacher directions of a whole number of codes are not rounded at all.',
  source: 'arXiv 2502.12346, quantized gradient estimators; the second moments are worked out here',
  compute,
  table: { rows: ['setting', 'estimator'], values: ['s', 'along', 'along, closed form', 'd·SNR', 'd·SNR, closed form'] },
  figure: {
    transform: [{ filter: `datum.elements === ${SIZE} && datum.estimator !== 'rge1-debiased' && datum['d·SNR'] > 0` }],
    facet: {
      column: {
        field: 'grid',
        type: 'nominal',
        title: null,
        header: { labelExpr: "datum.value === 'codes' ? 'codes, by σ' : 'floats, by bits'" },
      },
      row: { field: 'distribution', type: 'nominal', title: null },
    },
    spec: {
      width: 320,
      height: 200,
      mark: { type: 'line', point: { size: 40 }, clip: true },
      encoding: {
        x: { field: 'fineness', type: 'quantitative', title: null, scale: logarithmic },
        y: { field: 'd·SNR', type: 'quantitative', title: 'd · signal-to-noise', scale: { type: 'log', domain: [3e-4, 1.5] } },
        color: { field: 'estimator', type: 'nominal', title: null, sort: estimators },
      },
    },
    resolve: { scale: { x: 'independent' } },
  },
  claims: [
    unbiased('rge2', 'The mean of rge2 is the gradient'),
    unbiased('rge1', 'The mean of rge1 is s times the gradient, with s in closed form'),
    unbiased('rge1-debiased', 'The mean of rge1-debiased is the gradient'),
    noise,
  ],
};
