// Added loss along the line from the dense model to what each method makes of it.
import type { ExperimentClaim, ExperimentRow, StudyExperiment } from '@lowbit/core';
import { combine, numberOf, panels, type Sample, sampleOf, show, showSample, valuesOf } from '@lowbit/core/experiments';
import { arm, decoupleqStep, gptqStep, inGroups, rtnStep, straightThroughStep } from './arms.js';
import { inEverySeed } from './claims.js';
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

/** Where the paper finds the two far apart. */
const coarse = [2, 3];

const lessSteep: ExperimentClaim = {
  name: 'Q3-steep',
  statement:
    'At 2 and 3 bits, as far from the dense weights as rounding ends, less loss is added towards QAT than towards rounding, in every seed',
  check: (rows) =>
    valuesOf(rows, 'model').flatMap((model) =>
      coarse.flatMap((bits) => {
        const [rounded, trained] = [RTN, STRAIGHT].map((method) => lineOf(rows, { model, bits, method }));
        if (!rounded || !trained) return [];
        const trainedGap = trained.gapAt(rounded.distance);
        const evidence = `at ${show(rounded.distance.mean)} of the norm: QAT ${showSample(trainedGap)}, RTN ${showSample(rounded.end)}; QAT ends at ${show(trained.distance.mean)}`;
        const difference = combine((a, b) => a - b, trainedGap, rounded.end);
        return [{ subject: `${String(model)}, ${bits} bits`, holds: inEverySeed(difference, (value) => value < 0), evidence }];
      }),
    ),
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
    const rows = places.map(({ radius, gap }, i) => ({ ...parameters, alpha: alphas[i], radius, 'loss-gap': gap }));
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
  claims: [lessSteep],
};
