// Size against loss.
import type { ClaimVerdict, ExperimentClaim, ExperimentRow, RecipeExperiment, StepReference } from '@lowbit/core';
import { ascends, logarithmic, panels, type Sample, sampleOf, show, valuesOf } from '@lowbit/core/experiments';
import { arm, codesStep, decoupleqStep, type Format, gptqStep, protocol, straightThroughStep } from './arms.js';

const local = ['GPTQ', 'decoupleQ'] as const;
const trained = ['QAT from rounding', 'decoupleQ + QAT'] as const;

const methods: Readonly<Record<string, (format: Format) => readonly StepReference[]>> = {
  [local[0]]: (format) => [gptqStep(format)],
  [local[1]]: (format) => [decoupleqStep(format)],
  [trained[0]]: (format) => [straightThroughStep(format)],
  [trained[1]]: (format) => [decoupleqStep(format), codesStep(format.bits)],
};

const granularities = { 'per channel': -1, 'groups of 32': 32 } as const;

const arms = [2, 3, 4].flatMap((bits) =>
  Object.entries(granularities).flatMap(([groups, groupSize]) =>
    Object.entries(methods).map(([method, stepsOf]) => arm(stepsOf({ bits, groupSize }), { method, bits, groups })),
  ),
);

interface Point {
  readonly name: string;
  readonly size: number;
  readonly loss: Sample;
}

function pointsOf(rows: readonly ExperimentRow[], model: ExperimentRow[string], names: readonly string[]): Point[] {
  const own = arms.filter(({ parameters }) => names.includes(String(parameters?.['method'])));
  return own.flatMap(({ name, parameters }) => {
    const setting = { model, ...parameters };
    const [size, loss] = ['bitsPerWeight', 'loss-gap'].map((field) => sampleOf(rows, setting, field));
    return size && loss ? [{ name, size: size.mean, loss }] : [];
  });
}

/** Points of training that are no larger than this one and add less loss, in every seed. */
function beats(point: Point, other: Point): boolean {
  return point.size <= other.size && ascends([point.loss, other.loss]);
}

const front: ExperimentClaim = {
  name: 'front',
  statement: 'For every model of GPTQ and of decoupleQ there is one that was trained, is no larger, and adds less loss in every seed',
  check: (rows) =>
    valuesOf(rows, 'model').flatMap((model): ClaimVerdict[] => {
      const [theirs, ours] = [local, trained].map((names) => pointsOf(rows, model, names));
      if (theirs.length === 0 || ours.length === 0) return [];
      return theirs.map((point) => {
        const smaller = ours.filter((one) => beats(one, point)).toSorted((a, b) => a.size - b.size);
        const found = smaller.length === 0 ? 'none is better' : smaller.map(showPoint).join('; ');
        return { subject: `${String(model)}, ${point.name}`, holds: smaller.length > 0, evidence: `${showPoint(point)}: ${found}` };
      });
    }),
};

function showPoint({ name, size, loss }: Point): string {
  return `${name}: ${show(size)} bits, ${show(loss.mean)}`;
}

export const pareto: RecipeExperiment = {
  name: 'pareto',
  title: 'Size against added loss: trained and untrained, 2 to 4 bits',
  description:
    'GPTQ, decoupleQ, and QAT of either format, from rounding with grids that are recomputed at every step, and from decoupleQ: 2, 3 and 4 bits, per channel and in groups of 32. Size is bits per weight with everything counted. ' +
    'The paper finds the front of training below that of GPTQ: a trained model of fewer bits is as good as an untrained one of more. Look at what training buys in bits.',
  source: 'arXiv 2410.14570, figure of size against loss',
  ...protocol,
  models: ['tiny'],
  arms,
  table: { rows: ['model', 'groups', 'method'], columns: 'bits', values: ['loss-gap', 'bitsPerWeight'] },
  figure: panels(
    {
      mark: { type: 'line', point: { size: 40 } },
      encoding: {
        x: { field: 'bitsPerWeight', type: 'quantitative', title: 'bits per weight', scale: { zero: false } },
        y: { field: 'loss-gap', type: 'quantitative', aggregate: 'mean', title: 'added loss, nats per token', scale: logarithmic },
        color: { field: 'method', type: 'nominal', title: 'method', sort: [...local, ...trained] },
      },
    },
    { row: { field: 'groups', sort: Object.keys(granularities) }, independent: ['y'] },
  ),
  claims: [front],
};
