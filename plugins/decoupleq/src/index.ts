// decoupleQ (arXiv 2404.12759): integer and floating-point parts of a weight optimised in turn, then block by block.
import { checkDense, defineMethod, gram, LowbitError, readFloats, requireDense, tensor } from '@lowbit/core';
import { AffineWeight, checkGroups, QuantizedLinear, resolveGroupSize } from '@lowbit/quant';
import { refineBlock } from './block.js';
import { codeStepOf } from './code-steps/select.js';
import { decoupleqCost } from './cost.js';
import { type DecoupleResult, decouple } from './layer.js';
import { decoupleqOptions } from './options.js';
import type { LayerProblem } from './problem.js';
import { reportLayer } from './report.js';
import { sharedHessian } from './shared-hessian.js';
import { zeroCode } from './stored-scales.js';

export { codeStepOf } from './code-steps/select.js';
export { experiments } from './experiments/index.js';
export { type DecoupleResult, type DecoupleSettings, decouple, type TraceEntry } from './layer.js';
export { type DecoupleqInput, type DecoupleqOptions, decoupleqOptions } from './options.js';
export type { CodeStep, LayerProblem, Quantized, Scales } from './problem.js';
export { decoupleqSft } from './sft.js';

/** Codes, scales and offsets of each layer in turn, then scales, offsets and norms of each block. */
export const decoupleq = defineMethod({
  name: 'decoupleq',
  version: 1,
  description: 'Codes and scales optimised in turn, layer by layer, then scales block by block (arXiv 2404.12759)',
  options: decoupleqOptions,
  statistics: { gram },
  makes: 'affine',
  cost: decoupleqCost,
  check(linear, { groupSize }) {
    checkDense(linear);
    checkGroups(linear, groupSize);
  },
  async quantizeLinear(linear, context) {
    const { backend, options, path, stats } = context;
    const dense = requireDense(linear, path);
    const [leaf] = await backend.evaluate([dense.weight]);
    const [outFeatures, inFeatures] = leaf.shape;
    const weight = await readFloats(leaf);
    requireFinite(weight, inFeatures, path);
    const { hessian, factor, deadInputs } = await sharedHessian({ backend, gram: stats.gram, ...options, path });
    const { bits, zero } = options;
    const groupSize = resolveGroupSize({ path, inFeatures }, options.groupSize);
    const problem: LayerProblem = { backend, weight, outFeatures, inFeatures, bits, groupSize, zero, hessian, factor };
    const result = await decouple(problem, { ...options, codeStep: codeStepOf(options), signal: context.signal });
    reportLayer(context, problem, result, deadInputs);
    return new QuantizedLinear(affineWeight(problem, result), dense.bias);
  },
  refineBlock,
});

function requireFinite(weight: Float32Array, inFeatures: number, path: string): void {
  const bad = weight.findIndex((w) => !Number.isFinite(w));
  if (bad < 0) return;
  const place = `output ${Math.floor(bad / inFeatures)}, input ${bad % inFeatures}`;
  throw new LowbitError('WEIGHT_NOT_FINITE', `${path}: ${place} is ${weight[bad]}; check the checkpoint`);
}

function affineWeight(problem: LayerProblem, { quantized: { codes, scale, offset }, scaleDtype }: DecoupleResult): AffineWeight {
  const { outFeatures, inFeatures, groupSize, bits, zero } = problem;
  const perGroup = [outFeatures, inFeatures / groupSize];
  return new AffineWeight({
    bits,
    codes: tensor(codes, [outFeatures, inFeatures]),
    scale: tensor(scale, perGroup),
    offset: zero === 'free' ? tensor(offset, perGroup) : undefined,
    zeroPoint:
      zero === 'integer'
        ? tensor(
            Uint8Array.from(scale, (s, g) => zeroCode(problem, s, offset[g])),
            perGroup,
          )
        : undefined,
    scaleDtype,
  });
}

export default decoupleq;
