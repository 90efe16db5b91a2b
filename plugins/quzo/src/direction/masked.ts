// Directions of the elements that are selected.
import type { DirectionValues, Draws, Hooks, Scratch } from '../hooks.js';
import type { TrainedParameter } from '../perturbation/trained.js';

/** The direction of a parameter, 0 where an element is not selected. */
export function selectedDirection(
  { direction, selector }: Pick<Hooks, 'direction' | 'selector'>,
  { parameter, fillMagnitudes }: TrainedParameter,
  draws: Draws,
  rounding: 'round1' | 'round2',
  scratch: Scratch,
): DirectionValues {
  const found = direction(parameter, draws, rounding, scratch);
  const mask = selector(
    {
      parameter,
      draws,
      magnitudes() {
        const out = scratch.float32(parameter.size);
        fillMagnitudes(out);
        return out;
      },
    },
    scratch,
  );
  if (mask) for (let i = 0; i < mask.length; i++) found.values[i] *= mask[i];
  return found;
}
