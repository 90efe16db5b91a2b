// Layer loss after each half-step of the alternation.
import type { ClaimVerdict, ExperimentClaim, ExperimentRow, RecipeExperiment } from '@lowbit/core';
import { arm, decoupleqStep, granularities, protocol } from './arms.js';
import { logarithmic, panels, shadeOf } from './figure.js';
import { layerRecords } from './logs.js';
import { mean, numberOf, rowsWhere, settingsOf, show, subjectOf } from './samples.js';

/** Rows are accepted one by one in double precision; what is recorded is a sum over them. */
const SUMMATION = 1e-6;

/** Of the gain after GPTQ, what the first alternation must bring. */
const MOST = 0.5;

/** One layer's losses by half-step. */
type Trace = ReadonlyMap<string, number>;

function traceOf(rows: readonly ExperimentRow[]): Trace {
  const ordered = [...rows].sort((a, b) => numberOf(a['order']) - numberOf(b['order']));
  return new Map(ordered.map((row) => [String(row['step']), numberOf(row['loss'])]));
}

function isNonIncreasing(trace: Trace): boolean {
  const losses = [...trace.values()];
  return losses.every((loss, i) => i === 0 || loss <= losses[i - 1] * (1 + SUMMATION));
}

/** What the first alternation gained of all that the alternation gained on GPTQ, over the layers together; 0 where a layer has no such steps. */
function firstShare(traces: readonly Trace[]): number {
  const at = (step: string): number => mean(traces.map((trace) => trace.get(step) ?? Number.NaN));
  const last = mean(traces.map((trace) => [...trace.values()].at(-1) ?? Number.NaN));
  const share = (at('gptq') - at('scales-0')) / (at('gptq') - last);
  return Number.isFinite(share) ? share : 0;
}

const monotone: ExperimentClaim = {
  name: 'R3',
  statement:
    "No half-step raises a layer's loss, GPTQ is no worse than rounding, and most of the gain on GPTQ is made in the first alternation",
  check: (rows) =>
    settingsOf(rows, ['model', 'groups']).map((setting): ClaimVerdict => {
      const ours = rowsWhere(rows, setting);
      const traces = settingsOf(ours, ['seed', 'layer']).map((one) => traceOf(rowsWhere(ours, one)));
      const rising = traces.filter((trace) => !isNonIncreasing(trace)).length;
      const share = firstShare(traces);
      return {
        subject: subjectOf(setting['model'], '2 bits', setting['groups']),
        holds: rising === 0 && share > MOST,
        evidence: `${rising} of ${traces.length} traces rise; the first alternation makes ${show(100 * share)} % of the gain`,
      };
    }),
};

/** The half-steps of four iterations, in their order. */
const halfSteps = ['rtn', 'gptq', ...[0, 1, 2].flatMap((i) => [`codes-${i}`, `scales-${i}`])];

export const trace: RecipeExperiment = {
  name: 'trace',
  title: 'Layer loss after each half-step of the alternation, at 2 bits',
  description:
    "Relative output error of each Linear on the calibration rows (the layer Hessian's dampening included) after rounding to nearest, after GPTQ, and after each half-step: codes for given scales, then " +
    'scales and offsets for given codes. A row of the weight takes a half-step only where that lowers its error, so no curve may rise; most of the gain comes with the first alternation, because freed ' +
    'scales and offsets matter more than better rounding.',
  source: 'arXiv 2404.12759, alternation of the two parts',
  ...protocol,
  arms: granularities.map(({ groupSize, groups }) => arm(decoupleqStep({ bits: 2, groupSize }), { groups })),
  rowsOf: (outcome) =>
    layerRecords(outcome).flatMap(({ path, trace }) =>
      trace.map(({ step, loss, accepted }, order) => ({
        ...outcome.arm.parameters,
        layer: path,
        linear: path.split('.').at(-1) ?? path,
        order,
        step,
        loss,
        accepted,
      })),
    ),
  table: { rows: ['model', 'groups', 'linear'], columns: 'step', values: ['loss'] },
  figure: panels({
    layer: [
      {
        mark: { type: 'line', opacity: 0.5, strokeWidth: 1 },
        encoding: {
          x: { field: 'step', type: 'ordinal', sort: halfSteps, title: 'half-step', axis: { labelAngle: -40 } },
          y: { field: 'loss', type: 'quantitative', aggregate: 'mean', title: 'relative output error', scale: logarithmic },
          color: shadeOf({ field: 'linear', title: 'Linear' }),
          detail: { field: 'layer' },
        },
      },
      {
        mark: { type: 'line', strokeWidth: 3, color: 'black', point: { color: 'black', size: 40 } },
        encoding: {
          x: { field: 'step', type: 'ordinal', sort: halfSteps },
          y: { field: 'loss', type: 'quantitative', aggregate: 'mean' },
        },
      },
    ],
  }),
  claims: [monotone],
};
