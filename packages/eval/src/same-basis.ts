// Whether the layers of two models can be compared one by one, or one model is the other in another basis.
import { type Backend, type Model, materialize, type Norm, readNumber, square, sub, sum, type Tensor, tensor } from '@lowbit/core';

/** Squared differences, relative, that rounding to 16 bits and training stay far below, and a rotation far above. */
const ANOTHER = 0.05;

/**
 * Whether the streams of both models have one basis and their norms the same weights, up to rounding and training: rotated or folded
 * models compute the same of weights that have nothing to do with each other.
 */
export async function sharesBasis(model: Model, reference: Model, backend: Backend, tokens: Tensor): Promise<boolean> {
  const { width } = reference;
  if (model.width !== width) return false;
  const weightOf = ({ weight }: Norm): Tensor => weight ?? tensor(new Float32Array(width).fill(1));
  const norms = ({ blocks, norm }: Model): Tensor[] => [...blocks.flatMap((block) => Object.values(block.norms)), norm].map(weightOf);
  const [embedded, others] = [await materialize(model.embedding), await materialize(reference.embedding)].map((e) => e.forward(tokens));
  const own = [embedded, ...norms(model)];
  const differences = [others, ...norms(reference)].flatMap((theirs, i) => [sum(square(sub(own[i], theirs))), sum(square(theirs))]);
  const energies = await Promise.all((await backend.evaluate(differences)).map(readNumber));
  return energies.every((energy, i) => i % 2 === 1 || energy <= ANOTHER * energies[i + 1]);
}
