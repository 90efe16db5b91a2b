// Added loss along the line from the dense model to what each method makes of it.
import type { ExperimentClaim, ExperimentRow, StudyExperiment } from '@lowbit/core';
import {
  combine,
  difference,
  inEverySeed,
  numberOf,
  panels,
  type Sample,
  sampleOf,
  show,
  showSample,
  valuesOf,
} from '@lowbit/core/experiments';
import { arm, decoupleqStep, gptqStep, inGroups, rtnStep, straightThroughStep } from './arms.js';
import { gapAtRadius, type Place, placesAlong, studyProtocol } from './lines.js';
import { distanceOf, pointOf } from './weight-space.js';

const RTN = 'RTN';
const GPTQ = 'GPTQ';
const DECOUPLEQ = 'decoupleQ';
const STRAIGHT = 'QAT from rounding';

const methods = [RTN, GPTQ, DECOUPLEQ, STRAIGHT];

const widths = [2, 3, 4];

const arms = widths.flatMap((bits) => {
  const format = inGroups(bits);
  const steps = [rtnStep(format), gptqStep(format), decoupleqStep(format), straightThroughStep(format)];
  return steps.map((step, i) => arm([step], { bits, method: methods[i] }));
});

/** The quantized model is at 1. */
const alphas = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5];

/** Where a method ends, by seed, and what the line to its end gives there or at another radius. */
interface Line {
  readonly distance: Sample;
  readonly end: Sample;
  gapAt(radius: Sample): Sample;
}

function lineOf(rows: readonly ExperimentRow[], setting: ExperimentRow): Line | undefined {
  const atEnd = { ...setting, alpha: 1 };
  const [distance, end] = [sampleOf(rows, atEnd, 'radius'), sampleOf(rows, atEnd, 'loss-gap')];
  if (!distance || !end) return undefined;
  const own = rows.filter((row) => Object.entries(setting).every(([name, value]) => row[name] === value));
  return {
    ...{ distance, end },
    gapAt(radius) {
      const found = [...radius.bySeed].map(([seed, value]) => {
        const places = own
          .filter((row) => row['seed'] === seed)
          .map((row) => ({ radius: numberOf(row['radius']), gap: numberOf(row['loss-gap']) }));
        return { seed, gap: gapAtRadius(places, value) };
      });
      return sampleOf(found, {}, 'gap') as Sample;
    },
  };
}

const lessSteep: ExperimentClaim = {
  name: 'Q3-steep',
  statement:
    'At 2, 3 and 4 bits, as far from the dense weights as rounding ends, less loss is added towards QAT than towards rounding, in every seed',
  check: (rows) =>
    valuesOf(rows, 'model').flatMap((model) =>
      widths.flatMap((bits) => {
        const [rounded, trained] = [RTN, STRAIGHT].map((method) => lineOf(rows, { model, bits, method }));
        if (!rounded || !trained) return [];
        const trainedGap = trained.gapAt(rounded.distance);
        const evidence = `at ${show(rounded.distance.mean)} of the norm: QAT ${showSample(trainedGap)}, RTN ${showSample(rounded.end)}; QAT ends at ${show(trained.distance.mean)}`;
        const holds = inEverySeed(difference(trainedGap, rounded.end), (value) => value < 0);
        return [{ subject: `${String(model)}, ${bits} bits`, holds, evidence }];
      }),
    ),
};

const smooth: ExperimentClaim = {
  name: 'Q3-smooth',
  statement:
    'At 2 and 3 bits the loss rises at every step along every line, from the dense weights to half as far beyond the quantized ones: no bump and no second valley, in every seed',
  check: (rows) =>
    valuesOf(rows, 'model').flatMap((model) =>
      [2, 3].flatMap((bits) =>
        methods.flatMap((method) => {
          const line = alphas.map((alpha) => sampleOf(rows, { model, bits, method, alpha }, 'loss-gap'));
          if (!line.every((sample) => sample !== undefined)) return [];
          const rises = line.slice(1).map((sample, i) => difference(sample, line[i]));
          const least = combine(Math.min, ...rises);
          const evidence = `the smallest of ${rises.length} rises ${showSample(least)}`;
          return [{ subject: `${String(model)}, ${bits} bits, ${method}`, holds: inEverySeed(least, (rise) => rise > 0), evidence }];
        }),
      ),
    ),
};

/** Nats a token: two ways to compute with the same weights round differently. */
const ROUNDING = 1e-4;

const ends: ExperimentClaim = {
  name: 'ends',
  statement: `Every line begins with the dense model, adding nothing, and passes through the quantized one, adding what that was judged to add, within ${ROUNDING} nats`,
  check: (rows) =>
    valuesOf(rows, 'model').flatMap((model) => {
      const at = (alpha: number) => rows.filter((row) => row['model'] === model && row['alpha'] === alpha);
      const [starts, quantized] = [at(0), at(1)];
      if (starts.length === 0 || quantized.length === 0) return [];
      const most = (offs: readonly number[]): number => offs.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      const offAtStart = most(starts.map((row) => numberOf(row['loss-gap'])));
      const offAtEnd = most(quantized.map((row) => numberOf(row['loss-gap']) - numberOf(row['judged'])));
      const holds = offAtStart <= ROUNDING && offAtEnd <= ROUNDING;
      return [{ subject: String(model), holds, evidence: `off by at most ${show(offAtStart)} at α = 0, ${show(offAtEnd)} at α = 1` }];
    }),
};

/** Columns of the table with added losses, by what they are called. */
const printed = { 'α = 0.5': 0.5, 'α = 1': 1, 'α = 1.25': 1.25 };

/** A line of the table: how far the line leads, the losses along it, and the loss over the square of the distance. */
function summaryOf(places: readonly Place[], distance: number): ExperimentRow {
  const gapAt = (alpha: number): number => places[alphas.indexOf(alpha)].gap;
  const gaps = Object.entries(printed).map(([name, alpha]) => [name, gapAt(alpha)] as const);
  return { distance, steepness: gapAt(1) / distance ** 2, ...Object.fromEntries(gaps) };
}

export const landscape: StudyExperiment = {
  name: 'landscape',
  title: 'Added loss along the lines from the dense model to RTN, GPTQ, decoupleQ and QAT',
  description:
    'Codes of 2, 3 and 4 bits in groups of 32. The weights go from those of the dense model (α = 0) to those that a method made of them (α = 1) and half as far beyond, and the loss that is added is drawn against how far that is: the norm of the change over the norm of the weights. ' +
    'In the square root of the loss a bowl is a straight line, and its slope is how steep the direction is. GPTQ gives up more distance than rounding for a flatter direction; look how flat the direction of training is, and whether it ends farther out than the others, which the paper reports and we only print.',
  source: 'arXiv 2410.14570, figures of the loss landscape',
  ...studyProtocol,
  arms,
  async study(context) {
    const { outcome, dense, quantized, backend, progress } = context;
    const [from, to] = [await pointOf(dense, backend), await pointOf(quantized, backend)];
    let done = 0;
    const places = await placesAlong(context, [from, to], alphas, () => progress(++done, alphas.length));
    const { parameters } = outcome.arm;
    const judged = (alpha: number): ExperimentRow => (alpha === 1 ? { judged: outcome.scores['loss-gap'] } : {});
    const rows = places.map(({ radius, gap }, i) => ({
      ...parameters,
      ...{ alpha: alphas[i], radius, 'loss-gap': gap },
      ...judged(alphas[i]),
    }));
    return [{ ...parameters, ...summaryOf(places, distanceOf(from, to)) }, ...rows];
  },
  table: { rows: ['model', 'bits', 'method'], values: ['distance', 'steepness', ...Object.keys(printed)] },
  figure: panels(
    {
      transform: [{ filter: 'isValid(datum.radius)' }],
      mark: { type: 'line', point: { size: 30 }, opacity: 0.8 },
      encoding: {
        x: { field: 'radius', type: 'quantitative', title: 'distance from the dense weights, ‖Δ‖ / ‖w‖' },
        y: { field: 'loss-gap', type: 'quantitative', title: 'added loss, nats per token', scale: { type: 'sqrt' } },
        color: {
          field: 'method',
          type: 'nominal',
          title: 'method',
          sort: methods,
          scale: { range: ['#8c8c8c', '#4c78a8', '#54a24b', '#f58518'] },
        },
        detail: { field: 'seed' },
        order: { field: 'alpha' },
      },
    },
    { row: { field: 'bits', sort: widths }, independent: ['x', 'y'] },
  ),
  claims: [lessSteep, smooth, ends],
};
