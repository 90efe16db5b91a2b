// The code step that a method's options ask for.
import { gptqCodes } from '@lowbit/quant';
import type { DecoupleqOptions } from '../options.js';
import type { CodeStep, LayerProblem, Scales } from '../problem.js';
import { descendCodes } from './coordinate-descent.js';
import { firstLevelCodes } from './first-level.js';
import { relaxWeights } from './projected-adam.js';

type CodeOptions = Pick<DecoupleqOptions, 'codeStep' | 'relaxationSteps' | 'relaxationRate' | 'innerSteps' | 'descentSweeps'>;

/** Codes for given scales as `options` want them found, then improved by coordinate descent. */
export function codeStepOf({ descentSweeps, ...options }: CodeOptions): CodeStep {
  const find = codeFinders[options.codeStep](options);
  if (descentSweeps === 0) return find;
  return async (problem, scales) => descendCodes(problem, { ...scales, codes: await find(problem, scales) }, descentSweeps);
}

const codeFinders: Readonly<Record<CodeOptions['codeStep'], (options: Omit<CodeOptions, 'descentSweeps'>) => CodeStep>> = {
  gptq: () => sweep,
  'pgd+gptq':
    ({ relaxationSteps: steps, relaxationRate }) =>
    async (problem, scales) => {
      const learningRate = relaxationRate * medianMagnitude(scales.scale);
      return sweep(problem, scales, await relaxWeights(problem, scales, { steps, learningRate }));
    },
  'first-level':
    ({ relaxationSteps, innerSteps, relaxationRate }) =>
    (problem, scales) =>
      firstLevelCodes(problem, scales, { relaxationSteps, innerSteps, learningRate: relaxationRate * medianMagnitude(scales.scale) }),
};

/** GPTQ's sweep over the weight, or over a relaxed one. */
function sweep(problem: LayerProblem, { scale, offset }: Scales, weight = problem.weight): Promise<Uint8Array> {
  const { backend, factor, bits, groupSize } = problem;
  return gptqCodes(backend, factor, weight, { bits, groupSize, scale, offset });
}

function medianMagnitude(scale: Float32Array): number {
  const sorted = scale.map(Math.abs).sort();
  return sorted[Math.floor(sorted.length / 2)];
}
