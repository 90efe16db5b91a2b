// What quantization-aware training takes, from shapes.
import type { Cost, Workload } from '@lowbit/core';
import { type TrainingCourse, trainingCost } from '@lowbit/train';
import type { CourseOptions } from './course.js';
import { ratesOf } from './course.js';
import type { QatOptions } from './options.js';

type CostOptions = CourseOptions & Pick<QatOptions, 'train' | 'groupSize' | 'batchWindows' | 'holdOut' | 'clip' | 'quantizer'>;

/** Values for each weight on its way through the rounding and back, once a pass; of a search for ranges at every step. */
const ROUNDING_VALUES = 12;
const SEARCH_VALUES = 500;

/** One training for each learning rate. */
export function qatCost(work: Workload<CostOptions>, course: Pick<TrainingCourse, 'hasTeacher' | 'oneByOne' | 'windowsAtOnce'>): Cost {
  const { epochs, maxTokens, batchWindows, holdOut, train, groupSize, quantizer, clip } = work.options;
  const trained = work.linears.reduce((total, { inFeatures, outFeatures }) => total + inFeatures * outFeatures, 0);
  const parameters = train === 'all' ? trained : (2 * trained) / (groupSize === -1 ? work.width : groupSize);
  const isSearched = train === 'all' && quantizer === 'minmax' && clip === 'mse';
  const valuesAWeight = train === 'all' ? ROUNDING_VALUES + (isSearched ? SEARCH_VALUES : 0) : undefined;
  const shared = { epochs, maxTokens, batchWindows, holdOut, parameters, ...(valuesAWeight !== undefined && { valuesAWeight }) };
  const { flops, elements, bytes } = trainingCost(work, { ...shared, ...course });
  const rates = ratesOf(work.options).length;
  return { flops: rates * flops, elements: rates * elements, bytes };
}
