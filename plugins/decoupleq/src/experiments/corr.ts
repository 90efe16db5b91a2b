// Whether a lower layer loss means a lower loss of the model.
import type { ClaimVerdict, ExperimentArm, ExperimentClaim, ExperimentRow, RecipeExperiment } from '@lowbit/core';
import { rankCorrelation } from '@lowbit/core/experiments';
import { arm, decoupleqStep, type Format, gptqStep, granularities, protocol, rtnStep } from './arms.js';
import { logarithmic, panels, shadeOf } from './figure.js';
import { meanLayerLoss } from './logs.js';
import { numberOf, rowsWhere, settingsOf, show, subjectOf } from './samples.js';

const variants = {
  RTN: rtnStep,
  GPTQ: (format: Format) => gptqStep(format),
  'GPTQ, clipped': (format: Format) => gptqStep(format, 'mse'),
  'decoupleQ, N = 2': (format: Format) => decoupleqStep(format, { iterations: 2 }),
  'decoupleQ, GPTQ codes': (format: Format) => decoupleqStep(format, { codeStep: 'gptq' }),
  'decoupleQ, no search': (format: Format) => decoupleqStep(format, { search: 'none' }),
  'decoupleQ, symmetric': (format: Format) => decoupleqStep(format, { zero: 'symmetric' }),
  decoupleQ: (format: Format) => decoupleqStep(format),
  'decoupleQ + descent': (format: Format) => decoupleqStep(format, { descentSweeps: 3 }),
};

const arms: ExperimentArm[] = [2, 3].flatMap((bits) =>
  granularities.flatMap(({ groupSize, groups }) =>
    Object.entries(variants).map(([method, stepOf]) => arm(stepOf({ bits, groupSize }), { bits, groups, method })),
  ),
);

/** Rows that have both losses, as pairs. */
interface Point {
  readonly arm: string;
  readonly error: number;
  readonly gap: number;
}

function pointsOf(rows: readonly ExperimentRow[]): Point[] {
  return rows
    .map((row) => ({
      arm: `${row['method']} ${row['groups']}`,
      error: numberOf(row['layer-error']),
      gap: numberOf(row['loss-gap']),
    }))
    .filter(({ error, gap }) => Number.isFinite(error) && Number.isFinite(gap));
}

/** Pairs of arms whose order by layer error is the opposite of that by loss gap; the widest first. */
function discordantPairs(points: readonly Point[]): (readonly [Point, Point])[] {
  return points
    .flatMap((a) => points.filter((b) => a.error < b.error && a.gap > b.gap).map((b) => [a, b] as const))
    .sort(([a, b], [c, d]) => d.gap / c.gap - b.gap / a.gap);
}

function describePair([a, b]: readonly [Point, Point]): string {
  return `${a.arm} has layer error ${show(a.error)} and adds ${show(a.gap)}, ${b.arm} ${show(b.error)} and ${show(b.gap)}`;
}

const counterClaim: ExperimentClaim = {
  name: 'counter-claim',
  statement:
    'A lower layer loss does not always give a lower loss of the model: among arms of equal bits, some pairs are ordered the opposite way',
  check: (rows) =>
    settingsOf(rows, ['model', 'bits', 'seed']).flatMap((setting): ClaimVerdict[] => {
      const points = pointsOf(rowsWhere(rows, setting));
      if (points.length < 3) return [];
      const pairs = discordantPairs(points);
      const correlation = rankCorrelation(
        points.map(({ error }) => error),
        points.map(({ gap }) => gap),
      );
      const count = `${pairs.length} of ${(points.length * (points.length - 1)) / 2} pairs are ordered the opposite way`;
      return [
        {
          subject: subjectOf(setting['model'], `${setting['bits']} bits`, `seed ${setting['seed']}`),
          holds: pairs.length > 0,
          evidence: [`Spearman's rank correlation ${show(correlation)}; ${count}`, ...pairs.slice(0, 1).map(describePair)].join(
            ', among them: ',
          ),
        },
      ];
    }),
};

export const corr: RecipeExperiment = {
  name: 'corr',
  title: 'Layer error against added loss',
  description:
    'Each point is an arm (a method with its options, 2 or 3 bits, per channel or in groups of 32): the mean relative error of the Linears on held-out text, and the loss that quantizing adds on the same text. The paper finds ' +
    'that the two go together, which is what justifies minimising layer by layer. They do on the whole; look for the exceptions among arms of equal bits, where a lower layer error comes with a higher loss.',
  source: 'arXiv 2404.12759, correlation of layer loss and perplexity',
  ...protocol,
  seeds: [0],
  evaluators: ['text', 'layer-error'],
  arms,
  rowsOf: (outcome) => [
    {
      ...outcome.arm.parameters,
      'layer-loss': meanLayerLoss(outcome),
      'layer-error': outcome.scores['layer-error'],
      'loss-gap': outcome.scores['loss-gap'],
    },
  ],
  table: { rows: ['model', 'bits', 'groups', 'method'], values: ['layer-loss', 'layer-error', 'loss-gap'] },
  figure: panels(
    {
      mark: { type: 'point', filled: true, size: 70 },
      encoding: {
        x: { field: 'layer-error', type: 'quantitative', title: 'relative layer error, held-out text', scale: logarithmic },
        y: { field: 'loss-gap', type: 'quantitative', title: 'added loss, nats per token', scale: logarithmic },
        color: shadeOf({ field: 'method', title: 'method', sort: Object.keys(variants) }),
        shape: { field: 'groups', type: 'nominal', title: 'granularity' },
      },
    },
    { row: { field: 'bits', header: { labelExpr: "datum.value + ' bits'" } }, width: 380, height: 260, independent: ['x', 'y'] },
  ),
  claims: [counterClaim],
};
