// Options that weight quantizers share, as zod shapes: `z.strictObject({ ...gridOptions, … })`. Help texts are made from them.
import { z } from 'zod';

/** 32 divides the widths of every supported model family; larger groups cost fewer bits. */
const DEFAULT_GROUP_SIZE = 32;

export const bitsOption = z.int().min(1).max(8).default(4).describe('Bits per code, 1 to 8');

export const groupSizeOption = z
  .int()
  .refine((size) => size === -1 || size > 0, 'expected a positive number of inputs, or -1 for one group per output channel')
  .default(DEFAULT_GROUP_SIZE)
  .describe('Consecutive inputs that share a scale; -1: all inputs of an output channel');

export const symmetricOption = z
  .boolean()
  .default(false)
  .describe('No zero points: the grid is centred on 0, which saves bits per weight and costs accuracy (at 1 bit it is the better grid)');

export const scaleDtypeOption = z
  .enum(['float16', 'float32'])
  .default('float16')
  .describe('How scales are stored; codes are computed with the stored scales');

/** How ranges are found, with the method's own default. */
export function clipOption(preset: 'minmax' | 'mse') {
  return z
    .enum(['minmax', 'mse'])
    .default(preset)
    .describe("'minmax' covers every weight of a group; 'mse' shrinks the range where that lowers the rounding error");
}

/** Everything `fitGrid` asks for; ranges cover every weight unless asked otherwise. */
export const gridOptions = {
  bits: bitsOption,
  groupSize: groupSizeOption,
  symmetric: symmetricOption,
  clip: clipOption('minmax'),
  scaleDtype: scaleDtypeOption,
};
