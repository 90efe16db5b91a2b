// Whether a model computes with quantized inputs: bits per weight do not show it.
import type { LinearState, Model } from '@lowbit/core';

const isQuantizer = ({ kind, attributes }: LinearState): boolean =>
  kind === 'activation-quantized' && typeof attributes['bits'] === 'number';

/** Bits of the inputs of the blocks' Linears, of the narrowest where they differ; undefined where none is quantized. */
export function activationBits({ blocks }: Model): number | undefined {
  const states = blocks.flatMap(({ linears }) => Object.values(linears).flatMap((linear) => withParts(linear.state())));
  const widths = states.filter(isQuantizer).map(({ attributes }) => attributes['bits'] as number);
  return widths.length === 0 ? undefined : Math.min(...widths);
}

function withParts(state: LinearState): LinearState[] {
  return [state, ...Object.values(state.parts ?? {}).flatMap(withParts)];
}
