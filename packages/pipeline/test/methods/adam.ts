// Adam over leaves: the update is a graph too, and what changes from step to step is a leaf, so all steps share one program.
import { add, type Backend, div, grad, mul, pow, readNumber, sqrt, square, sub, type Tensor, tensor } from '@lowbit/core';

interface Moments {
  readonly first: Tensor;
  readonly second: Tensor;
}

export interface AdamState {
  readonly parameters: readonly Tensor[];
  readonly moments: readonly Moments[];
  readonly step: number;
}

export function startAdam(parameters: readonly Tensor[]): AdamState {
  const zeros = (t: Tensor): Tensor => tensor(new Float32Array(t.size), t.shape);
  return { parameters, moments: parameters.map((t) => ({ first: zeros(t), second: zeros(t) })), step: 0 };
}

/** One step down the gradient of `lossOf` (arXiv 1412.6980, algorithm 1; β 0.9 and 0.99). */
export async function adamStep(
  backend: Backend,
  state: AdamState,
  learningRate: number,
  lossOf: (parameters: readonly Tensor[]) => Tensor,
): Promise<{ loss: number; next: AdamState }> {
  const step = state.step + 1;
  const [rate, count] = [tensor(learningRate), tensor(step)];
  const loss = lossOf(state.parameters);
  const gradients = grad(loss, state.parameters);
  const updates = state.parameters.flatMap((parameter, i) => {
    const first = add(mul(state.moments[i].first, 0.9), mul(gradients[i], 0.1));
    const second = add(mul(state.moments[i].second, 0.99), mul(square(gradients[i]), 0.01));
    const unbiased = (moment: Tensor, beta: number): Tensor => div(moment, sub(1, pow(tensor(beta), count)));
    const change = div(unbiased(first, 0.9), add(sqrt(unbiased(second, 0.99)), 1e-8));
    return [sub(parameter, mul(change, rate)), first, second];
  });
  const [value, ...values] = await backend.evaluate([loss, ...updates]);
  const next = {
    parameters: state.parameters.map((_, i) => values[3 * i]),
    moments: state.moments.map((_, i) => ({ first: values[3 * i + 1], second: values[3 * i + 2] })),
    step,
  };
  return { loss: await readNumber(value), next };
}
