// The closed-form corrections as a step of a recipe: an adapter for every quantized Linear, without training.
import { defineMethod, type Linear, type LinearContext, type LinearShape, LowbitError, readFloats, tensor } from '@lowbit/core';
import { closedForms, LowRankLinear, QuantizedLinear } from '@lowbit/quant';
import { sizedByOverrides } from '../adapters/overrides.js';
import { adapterRanks, checkRank } from '../adapters/ranks.js';
import { correctionCost } from '../cost.js';
import { type CorrectedLayer, correctFrozen, correctRounding, type FoundCorrection } from './correct.js';
import { type CorrectionForm, correctionOptions, type LowRankCorrectionOptions, roundsAgain } from './options.js';
import { sharedRoot } from './shared-root.js';

/**
 * A low-rank correction of the error that quantizing has left, in closed form: after any quantizer, and before `lrec` as its start.
 * Codes stay, but for LoftQ and PiSSA, which own the rounding. An adapter that a Linear has already stays below the new one.
 */
export const lowRankCorrection = sizedByOverrides(
  defineMethod({
    name: 'low-rank-correction',
    version: 1,
    description: 'Low-rank correction of a quantized model in closed form (LQER, QERA, EoRA, LoftQ, PiSSA)',
    options: correctionOptions,
    makes: 'low-rank',
    statistics: ({ form }: LowRankCorrectionOptions) => (roundsAgain(form) ? {} : closedForms[form].statistics),
    check(linear, options) {
      checkRank(linear, options);
      checkKind(linear, options);
    },
    cost: correctionCost,
    quantizeLinear: correct,
  }),
);

function checkKind({ path, kind }: LinearShape, { form }: LowRankCorrectionOptions): void {
  if (kind === 'dense') {
    throw new LowbitError(
      'LINEAR_NOT_QUANTIZED',
      `${path}: is not quantized, so there is nothing to correct; put a quantizing step first, or narrow this step's targets`,
    );
  }
  if (roundsAgain(form) && kind !== 'affine') throw notAffine(path, kind, form);
}

function notAffine(path: string, kind: string, form: CorrectionForm): LowbitError {
  const remedy = 'put it right after a step that makes such codes, or choose a form that keeps codes';
  return new LowbitError('LINEAR_NOT_AFFINE', `${path}: is '${kind}', and ${form} rounds affine codes again; ${remedy}`);
}

async function correct(linear: Linear, context: LinearContext<LowRankCorrectionOptions>): Promise<Linear> {
  const { options, path, log, warn } = context;
  const { form, alpha, adapterDtype: factorDtype } = options;
  const rank = adapterRanks(context.model, context.optionsFor).get(path) ?? 0;
  if (rank === 0) {
    log({ form, rank });
    return linear;
  }
  const scaling = alpha === undefined ? 1 : alpha / rank;
  const layer = await layerOf(linear, context, { rank, scaling, factorDtype });
  const { base, found, details } = await find(linear, layer, context);
  const { errorBefore, errorAfter, down, up } = found;
  log({ form, rank, errorBefore, errorAfter, ...details });
  if (!(errorAfter < errorBefore)) {
    const errors = `${errorBefore.toPrecision(3)} without it and ${errorAfter.toPrecision(3)} with it`;
    warn('CORRECTION_NO_GAIN', `${path}: the relative error is ${errors}; the layer stays as it was`);
    return linear;
  }
  const { outFeatures, inFeatures } = linear;
  return new LowRankLinear({ base, down: tensor(down, [rank, inFeatures]), up: tensor(up, [outFeatures, rank]), scaling, factorDtype });
}

async function layerOf(
  linear: Linear,
  { backend, path, rng, reference }: LinearContext<LowRankCorrectionOptions>,
  adapter: Pick<CorrectedLayer, 'rank' | 'scaling' | 'factorDtype'>,
): Promise<CorrectedLayer> {
  const tensors = await backend.evaluate([(await reference()).effectiveWeight(), linear.effectiveWeight()]);
  const [weight, given] = await Promise.all(tensors.map(readFloats));
  if (![weight, given].every((values) => values.every(Number.isFinite))) {
    throw new LowbitError(
      'WEIGHT_NOT_FINITE',
      `${path}: the weight or what it was quantized to holds NaN or Infinity; check the checkpoint`,
    );
  }
  return { backend, path, shape: [linear.outFeatures, linear.inFeatures], weight, given, rng, ...adapter };
}

interface Outcome {
  readonly found: FoundCorrection;
  /** What the adapter stands beside. */
  readonly base: Linear;
  /** For the log. */
  readonly details?: Readonly<Record<string, unknown>> | false;
}

async function find(linear: Linear, layer: CorrectedLayer, context: LinearContext<LowRankCorrectionOptions>): Promise<Outcome> {
  const { options, path, stats, backend } = context;
  const { form, dampening, rounds } = options;
  if (!roundsAgain(form)) {
    const root = await sharedRoot({ backend, form, stats, dampening });
    if (root.kind === 'triangular') warnOfFewRows(linear, context);
    return { found: await correctFrozen(layer, root), base: linear, details: root.kind === 'triangular' && { dampening: root.dampening } };
  }
  if (!(linear instanceof QuantizedLinear)) throw notAffine(path, linear.kind, form);
  const found = await correctRounding(layer, linear.weight, form, rounds);
  return { found, base: new QuantizedLinear(found.quantized, linear.bias) };
}

/** Calibration rows an input, below which a whole second moment did worse than its diagonal after GPTQ: see the README for what was measured. */
const ENOUGH_ROWS = 2;

function warnOfFewRows({ inFeatures }: Linear, { options, path, rows, warn }: LinearContext<LowRankCorrectionOptions>): void {
  if (rows >= ENOUGH_ROWS * inFeatures) return;
  const remedy = `calibrate on ${ENOUGH_ROWS * inFeatures} or more, raise dampening, or choose 'qera-approx'`;
  warn(
    'CORRECTION_FEW_ROWS',
    `${path}: ${rows} calibration rows for ${inFeatures} inputs may make ${options.form} fit the text alone; ${remedy}`,
  );
}
