// Group sizes: how the inputs of a layer divide into groups that share a scale.
import { LowbitError } from '@lowbit/core';

/** What is needed of a layer to check its grouping, before its weights are read. */
export interface GroupedLayer {
  readonly path: string;
  readonly inFeatures: number;
}

/** Sizes people use, offered in messages when they fit. */
const USUAL_SIZES = [16, 32, 64, 96, 128, 256];

/** @throws GROUP_SIZE when the inputs of the layer do not divide into groups. For the `check` stage of a method. */
export function checkGroups(layer: GroupedLayer, groupSize: number): void {
  resolveGroupSize(layer, groupSize);
}

/**
 * The concrete group size: −1 stands for all inputs of an output channel.
 * @throws GROUP_SIZE when the inputs of the layer do not divide into groups.
 */
export function resolveGroupSize({ path, inFeatures }: GroupedLayer, groupSize: number): number {
  if (groupSize === -1) return inFeatures;
  if (Number.isInteger(groupSize) && groupSize > 0 && inFeatures % groupSize === 0) return groupSize;
  const fitting = USUAL_SIZES.filter((size) => inFeatures % size === 0);
  const advice = `use ${[...fitting, '-1 (one group per output channel)'].join(', ')}`;
  throw new LowbitError('GROUP_SIZE', `${path}: ${inFeatures} inputs do not divide into groups of ${groupSize}; ${advice}`);
}
