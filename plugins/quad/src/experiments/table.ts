// Perplexity by format and method: the paper's main table in small.
import type { ExperimentRow, RecipeExperiment } from '@lowbit/core';
import { ascends, type Comparison, claimOn, difference, logarithmic, means, panels } from '@lowbit/core/experiments';
import { arm, type Format, type FormatName, formats, plainStep, protocol, quadStep, RANK, rotateStep, weightStep } from './arms.js';
import { isAtMost } from './noise.js';

/** What is done to the model before its weights are quantized. */
const transforms = {
  none: (format: Format) => plainStep(format),
  QuaRot: (format: Format) => rotateStep(format),
  QUAD: (format: Format) => quadStep(format),
};

const quantizers = { RTN: 'rtn', GPTQ: 'gptq' } as const;

type Transform = keyof typeof transforms;
type Quantizer = keyof typeof quantizers;

function nameOf(transform: Transform, quantizer: Quantizer): string {
  return transform === 'none' ? quantizer : `${transform}-${quantizer}`;
}

const kinds = (Object.keys(transforms) as Transform[]).flatMap((transform) =>
  (Object.keys(quantizers) as Quantizer[]).map((quantizer) => ({ transform, quantizer })),
);

const arms = (Object.keys(formats) as FormatName[]).flatMap((format) =>
  kinds.map(({ transform, quantizer }) =>
    arm([transforms[transform](formats[format]), weightStep(quantizers[quantizer], formats[format])], {
      format,
      method: nameOf(transform, quantizer),
    }),
  ),
);

/** Fields of the rows of some methods, by the method. */
function at(format: FormatName, ...methods: readonly string[]): Readonly<Record<string, ExperimentRow>> {
  return Object.fromEntries(methods.map((method) => [method, { format, method }]));
}

/** Of the difference between plain and rotated, seed by seed. */
const DEVIATIONS = 3;

const rotationHelps: Comparison = {
  subject: 'W4A4, RTN',
  arms: at('W4A4', 'QuaRot-RTN', 'RTN'),
  holds([rotated, plain]) {
    const gain = difference(plain, rotated);
    return gain.mean > 0 && gain.mean > DEVIATIONS * gain.deviation;
  },
};

/** Below QuaRot in every seed, weights by GPTQ. */
function decomposed(format: FormatName): Comparison {
  return { subject: `${format}, GPTQ`, arms: at(format, 'QUAD-GPTQ', 'QuaRot-GPTQ'), holds: ascends };
}

const feedbackHelps = (Object.keys(formats) as FormatName[]).map(
  (format): Comparison => ({
    subject: format,
    arms: at(format, 'QUAD-GPTQ', 'QUAD-RTN'),
    holds: ([gptq, rtn]) => isAtMost(gptq, rtn),
  }),
);

const moreBits: Comparison = {
  subject: 'QUAD-GPTQ',
  arms: { 'W4A4/A8': { format: 'W4A4/A8', method: 'QUAD-GPTQ' }, W4A4: { format: 'W4A4', method: 'QUAD-GPTQ' } },
  holds: ascends,
};

/** No transform grey, rotation blue, decomposition red; the pale one of each rounds to nearest. */
const colors = ['#bdbdbd', '#737373', '#9ecae1', '#3182bd', '#fc9272', '#cb181d'];

export const table: RecipeExperiment = {
  name: 'table',
  title: 'QUAD, QuaRot and plain quantization of weights and activations',
  description:
    `W4A4, W4A4/A8 (8 bits for what o and down read) and W3A3; weights symmetric with one scale an output channel, rounded to nearest or by GPTQ; activations symmetric, one scale a token, clipped at 0.9 of the largest. QUAD keeps ${RANK} directions of the residual stream in full precision: ` +
    "6 % of the width of the tiny models, 4 % of that of stories15M, where the paper's 64 of 4096 are 1.6 %, whose gain would be within noise at these widths. Nothing is tuned. The seed draws calibration text and signs of the rotation. Look for plain quantization far behind " +
    'wherever there are outlier channels, and for QUAD below QuaRot; most clearly at W3A3.',
  source: 'arXiv 2503.19353, tables of perplexity; baselines of arXiv 2404.00456',
  ...protocol,
  models: [...protocol.models, 'stories15M'],
  arms,
  table: { rows: ['model', 'method'], columns: 'format', values: ['perplexity', 'loss-gap', 'kl'] },
  figure: panels(
    means('y', 'point', {
      x: { field: 'format', type: 'nominal', title: null, sort: Object.keys(formats), axis: { labelAngle: 0 } },
      y: { field: 'loss-gap', title: 'added loss, nats per token', scale: logarithmic },
      color: {
        field: 'method',
        title: 'method',
        sort: kinds.map(({ transform, quantizer }) => nameOf(transform, quantizer)),
        scale: { range: colors },
      },
    }),
    { independent: ['y'] },
  ),
  claims: [
    claimOn(
      'C1',
      `Rotating lowers the loss that is added without it, by more than ${DEVIATIONS} deviations of the difference between seeds`,
      [rotationHelps],
    ),
    claimOn('C2', 'At W4A4 QUAD adds less loss than QuaRot, in every seed', [decomposed('W4A4')]),
    claimOn('C4', 'With equal rank, GPTQ adds no more loss than rounding to nearest, beyond noise', feedbackHelps),
    claimOn('C5', '8 bits for what o and down read lower the loss that QUAD adds, in every seed', [moreBits]),
    claimOn('C10', 'At W3A3 QUAD adds less loss than QuaRot, in every seed', [decomposed('W3A3')]),
  ],
};
