// KL divergence to the dense model by bits and method: what the paper's tables and its figure of bits against KL show, in small.
import type { RecipeExperiment } from '@lowbit/core';
import { logarithmic, means, panels } from '@lowbit/core/experiments';
import { arm, gptqStep, lrecStep, protocol, RATE, rtnStep } from './arms.js';
import { methods, tableClaims } from './table-claims.js';

/** The finer the codes, the less there is to correct, and the smaller the steps: the published scripts too train INT4 at a lower rate than INT2. */
const rateAt = (bits: number): number => RATE * 2 ** (-1.5 * (bits - 2));

const arms = [2, 3, 4, 8].flatMap((bits) => [
  arm([rtnStep(bits)], { bits, method: methods.rtn }),
  arm([gptqStep(bits)], { bits, method: methods.gptq }),
  arm([gptqStep(bits), lrecStep({ learningRate: rateAt(bits) })], { bits, method: methods.lrec }),
]);

export const table: RecipeExperiment = {
  name: 'table',
  title: 'LREC on GPTQ, GPTQ alone and rounding to nearest at 2, 3, 4 and 8 bits',
  description:
    'Codes in groups of 32; LREC adds adapters of 5 % of the checkpoint to all Linears of the blocks and trains them on the calibration windows, four passes of 32 768 tokens. All methods see the same text and are judged on other text: KL ' +
    'divergence to the dense model, the loss that quantizing adds, perplexity. The paper finds that LREC makes INT2 usable and that the correction matters less the more bits there are. Look for LREC < GPTQ < rounding at 2 and 3 bits, and for ' +
    'a gain that shrinks towards 8 bits, where nothing is left to correct and nothing may be spoilt.',
  source: 'arXiv 2306.08162, perplexity and KL by bits',
  ...protocol,
  arms,
  table: { rows: ['model', 'method'], columns: 'bits', values: ['kl', 'loss-gap', 'perplexity'] },
  figure: panels(
    means('y', 'line', {
      x: { field: 'bits', type: 'ordinal', title: 'bits per code', axis: { labelAngle: 0 } },
      y: { field: 'kl', title: 'KL, nats per token', scale: logarithmic },
      color: { field: 'method', title: 'method', sort: Object.values(methods), scale: { range: ['#8c8c8c', '#4c78a8', '#d62728'] } },
    }),
    { independent: ['y'] },
  ),
  claims: tableClaims,
};
