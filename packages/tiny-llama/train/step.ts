// One training step: forward, gradients and optimizer update as a single evaluation.
import { type Backend, crossEntropy, grad, type Model, mean, readNumber, slice, type Tensor, tensorsOf } from '@lowbit/core';
import { type AdamWOptions, adamW, type OptimizerState } from './optimizer.js';

export interface StepResult {
  readonly state: OptimizerState;
  /** Mean cross-entropy of the batch before the update, nats per token. */
  readonly loss: number;
  readonly gradientNorm: number;
}

/** The model with its parameters replaced by name. */
export function withParameters(model: Model, parameters: ReadonlyMap<string, Tensor>): Model {
  return model.map((t, name) => parameters.get(name) ?? t);
}

/** Trainable tensors by name; tied ones once. */
export function parametersOf(model: Model): Map<string, Tensor> {
  return tensorsOf(model);
}

/** Mean cross-entropy of predicting each window's next tokens: int32 [batch, tokens + 1] → scalar. */
export function windowLoss(model: Model, windows: Tensor): Tensor {
  const tokens = windows.shape[1] - 1;
  return mean(crossEntropy(model.forward(slice(windows, 1, 0, tokens)), slice(windows, 1, 1, tokens + 1)));
}

/** Update number `step` (from 1) on one batch of windows, int32 [batch, tokens + 1]. The old state's memory is given back. */
export async function trainStep(
  backend: Backend,
  model: Model,
  state: OptimizerState,
  windows: Tensor,
  step: number,
  learningRate: number,
  options: AdamWOptions,
): Promise<StepResult> {
  const names = [...state.parameters.keys()];
  const loss = windowLoss(withParameters(model, state.parameters), windows);
  const gradients = grad(loss, [...state.parameters.values()]);
  const update = adamW(state, new Map(names.map((name, i) => [name, gradients[i]])), step, learningRate, options);
  const flat = (s: OptimizerState): Tensor[] => [...s.parameters.values(), ...s.first.values(), ...s.second.values()];
  const [lossValue, norm, ...leaves] = await backend.evaluate([loss, update.gradientNorm, ...flat(update.state)], { release: flat(state) });
  const part = (index: number): Map<string, Tensor> => new Map(names.map((name, i) => [name, leaves[index * names.length + i]]));
  return {
    state: { parameters: part(0), first: part(1), second: part(2) },
    loss: await readNumber(lossValue),
    gradientNorm: await readNumber(norm),
  };
}
