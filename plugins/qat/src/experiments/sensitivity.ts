// What each Linear costs by itself, and what training those that cost most gains.
import type { ExperimentRow, Model, Rng, StepReference, StudyContext, StudyExperiment } from '@lowbit/core';
import { ascends, claimOn, logarithmic, panels, rankCorrelation } from '@lowbit/core/experiments';
import { codesStep, gptqStep, inGroups } from './arms.js';
import { studyProtocol } from './lines.js';

const BITS = 2;

/** What all Linears become, and what is trained of it, from the dense weights behind the codes. */
const start: StepReference = gptqStep(inGroups(BITS), 'mse');
const EPOCHS = 2;

/** Ways to choose what is trained. */
const WORST = 'largest divergence';
const WRONG = 'largest local error';
const RANDOM = 'at random';
const NONE = 'none';
const ALL = 'all';

/** A Linear of the dense model that is quantized alone, or a block of them. */
interface Part {
  /** Of a Linear or a block. */
  readonly path: string;
  readonly unit: 'Linear' | 'block';
  /** Its Linear as blocks name it: 'self_attn.q_proj'; of a block, 'block'. */
  readonly kind: string;
  readonly model: Model;
}

/** The dense model with one Linear, or all of one block, from the quantized one. */
export function partsOf(dense: Model, quantized: Model): Part[] {
  return dense.blocks.flatMap((block, index) => {
    const { linears } = quantized.blocks[index];
    const own = Object.entries(linears).map(([name, linear]): Part => {
      const model = dense.withBlock(index, block.with({ linears: { [name]: linear } }));
      return { path: `${block.path}.${name}`, unit: 'Linear', kind: name, model };
    });
    return [...own, { path: block.path, unit: 'block', kind: 'block', model: dense.withBlock(index, block.with({ linears })) }];
  });
}

interface Cost {
  readonly path: string;
  /** Nats a token by which the model's predictions differ from the dense one's: it is above 0 where the added loss may be noise. */
  readonly kl: number;
  readonly error: number;
}

function trainStep(targets: readonly string[]): StepReference {
  const { method, options } = codesStep(BITS, { epochs: EPOCHS });
  return { method, options: { ...options, targets } };
}

/** Paths in the order in which a rule takes them. */
function chosen(by: string, costs: readonly Cost[], rng: Rng): readonly string[] {
  if (by === RANDOM) return [...rng.at('order').permutation(costs.length)].map((i) => costs[i].path);
  const weigh = by === WORST ? (cost: Cost): number => cost.kl : (cost: Cost): number => cost.error;
  return costs.toSorted((a, b) => weigh(b) - weigh(a)).map(({ path }) => path);
}

/** What is trained, in the order of the figure. */
const trials = [
  { by: WORST, share: 0.25 },
  { by: WRONG, share: 0.25 },
  { by: RANDOM, share: 0.25 },
  { by: WORST, share: 0.5 },
  { by: RANDOM, share: 0.5 },
  { by: ALL, share: 1 },
] as const;

async function study(context: StudyContext): Promise<ExperimentRow[]> {
  const { outcome, dense, quantized, rng, quantize, scoresOf, layerErrors, progress } = context;
  // What is chosen by held-out text would be better on it than elsewhere.
  const errors = await layerErrors(quantized, 'calibration');
  const parts = partsOf(dense, quantized);
  const total = parts.length + trials.length;
  const rows: ExperimentRow[] = [];
  const costs: Cost[] = [];
  for (const [done, { path, unit, kind, model }] of parts.entries()) {
    progress(done, total);
    const { kl, 'loss-gap': gap } = await scoresOf(model, 'calibration');
    const error = errors[path];
    if (unit === 'Linear') costs.push({ path, kl, error });
    rows.push({ unit, path, kind, divergence: kl, added: gap, ...(unit === 'Linear' && { 'layer-error': error }) });
  }
  const { kl, 'loss-gap': gap } = outcome.scores;
  const ofAll = await scoresOf(quantized, 'calibration');
  rows.push({ trained: NONE, share: 0, 'loss-gap': gap, kl, ...summaryOf(costs, ofAll['kl']) });
  for (const [done, { by, share }] of trials.entries()) {
    progress(parts.length + done, total);
    const targets = by === ALL ? ['**'] : chosen(by, costs, rng).slice(0, Math.round(share * costs.length));
    const trained = await scoresOf(await quantize([start, trainStep(targets)]));
    rows.push({ trained: by, share, 'loss-gap': trained['loss-gap'], kl: trained['kl'] });
  }
  return rows;
}

/** Whether local errors tell what Linears cost, and how much of what all cost together they cost one by one. */
function summaryOf(costs: readonly Cost[], ofAll: number): ExperimentRow {
  const divergences = costs.map(({ kl }) => kl);
  const correlation = rankCorrelation(
    costs.map(({ error }) => error),
    divergences,
  );
  return { 'rank correlation': correlation, 'sum over the whole': sum(divergences) / ofAll };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

const worstFirst = claimOn(
  'worst-first',
  'Training the quarter of the Linears that by themselves move the answers most (KL) leaves less loss than training a random quarter, and more than training all, in every seed',
  [
    {
      arms: { all: { trained: ALL }, worst: { trained: WORST, share: 0.25 }, random: { trained: RANDOM, share: 0.25 } },
      holds: ascends,
    },
  ],
);

export const sensitivity: StudyExperiment = {
  name: 'sensitivity',
  title: 'What each Linear costs by itself, and what training those that cost most gains; 2 bits',
  description:
    'GPTQ with codes of 2 bits in groups of 32. One Linear, or one block, at a time is taken from the quantized model into the dense one, and the divergence from the dense model (KL) is measured on windows of the calibration text: what it costs by itself, drawn against its local error there. What one Linear adds to the loss may be noise or below zero; its divergence is neither. ' +
    'Then all Linears are quantized and some are trained (QAT, two passes over the calibration text): a quarter or a half of them, those of largest divergence, of largest local error, or at random, or all. The models are judged on other text, by the loss that they add. ' +
    'Look for Linears whose local error says little about what they cost, and for how much of the gain of training all comes with those that cost most.',
  source: 'arXiv 2410.14570, local error against loss; one layer at a time',
  ...studyProtocol,
  arms: [{ name: 'GPTQ, one at a time', recipe: [start] }],
  study,
  table: { rows: ['model', 'trained', 'share'], values: ['loss-gap', 'kl', 'rank correlation', 'sum over the whole'] },
  figure: panels(
    {
      transform: [{ filter: "datum.unit == 'Linear'" }],
      mark: { type: 'point', filled: true, size: 45, opacity: 0.7 },
      encoding: {
        x: { field: 'layer-error', type: 'quantitative', title: 'relative squared error of the outputs', scale: logarithmic },
        y: { field: 'divergence', type: 'quantitative', title: 'divergence, nats per token', scale: logarithmic },
        color: { field: 'kind', type: 'nominal', title: 'Linear' },
      },
    },
    { independent: ['x', 'y'], height: 320 },
  ),
  claims: [worstFirst],
};
