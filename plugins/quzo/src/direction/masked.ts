// Directions of the elements that are selected.
import type { DirectionValues, Draws, Hooks, Part, Scratch } from '../hooks.js';
import type { TrainedParameter } from '../perturbation/trained.js';
import { all } from './direction.js';

/** The direction of a parameter, or of a part of it, 0 where an element is not selected. */
export function selectedDirection(
  { direction, selector }: Pick<Hooks, 'direction' | 'selector'>,
  { parameter, fillMagnitudes }: TrainedParameter,
  draws: Draws,
  rounding: 'round1' | 'round2',
  scratch: Scratch,
  part: Part = all(parameter.size),
): DirectionValues {
  const found = direction(parameter, draws, rounding, scratch, part);
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
  if (mask) for (let i = 0; i < found.values.length; i++) found.values[i] *= mask[part.start + i];
  return found;
}
