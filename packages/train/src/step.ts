// One training step: loss, gradients and update as a single evaluation, or the update alone where the gradients have been computed.
import { type Backend, grad, readNumber, Tensor, tensor } from '@lowbit/core';
import type { LossGradients } from './loss.js';
import type { NamedTensors, Optimizer, OptimizerState } from './optimizer.js';

export interface StepRequest {
  readonly backend: Backend;
  readonly optimizer: Optimizer;
  readonly state: OptimizerState;
  /** Builds the loss, a scalar, on the state's parameters; or computes it with its gradients. */
  readonly lossOf: (parameters: NamedTensors) => Tensor | Promise<LossGradients>;
  /** Counted from 1. */
  readonly step: number;
  readonly learningRate: number;
  /** Gives the old state's memory back: nobody may read it afterwards. Default: false. */
  readonly release?: boolean;
}

export interface StepResult {
  readonly state: OptimizerState;
  /** Before the update. */
  readonly loss: number;
  /** Global norm of the gradients before clipping. */
  readonly gradientNorm: number;
}

/** Makes one update. */
export async function trainStep(request: StepRequest): Promise<StepResult> {
  const { backend, optimizer, state, lossOf, step, learningRate, release = false } = request;
  const names = [...state.parameters.keys()];
  const { loss, gradients, spent } = await differentiate(state.parameters, lossOf);
  const update = optimizer.update(state, gradients, step, learningRate);
  const results = [loss, update.gradientNorm, ...tensorsOfState(update.state)];
  const [lossValue, norm, ...leaves] = await backend.evaluate(results, { release: release ? [...spent, ...tensorsOfState(state)] : spent });
  const part = (index: number): NamedTensors => new Map(names.map((name, i) => [name, leaves[index * names.length + i]]));
  const slots = Object.keys(update.state.slots).map((slot, i): [string, NamedTensors] => [slot, part(i + 1)]);
  return {
    state: { parameters: part(0), slots: Object.fromEntries(slots) },
    loss: await readNumber(lossValue),
    gradientNorm: await readNumber(norm),
  };
}

interface Differentiated {
  readonly loss: Tensor;
  readonly gradients: NamedTensors;
  /** Leaves that are of no use after the update. */
  readonly spent: readonly Tensor[];
}

async function differentiate(parameters: NamedTensors, lossOf: StepRequest['lossOf']): Promise<Differentiated> {
  const made = await lossOf(parameters);
  if (!(made instanceof Tensor)) return { loss: tensor(made.loss), gradients: made.gradients, spent: [...made.gradients.values()] };
  const gradients = grad(made, [...parameters.values()]);
  return { loss: made, gradients: new Map([...parameters.keys()].map((name, i) => [name, gradients[i]])), spent: [] };
}

/** Parameters, then slot by slot, each in the parameters' order. */
function tensorsOfState({ parameters, slots }: OptimizerState): Tensor[] {
  return [parameters, ...Object.values(slots)].flatMap((map) => [...parameters.keys()].map((name) => map.get(name) as Tensor));
}
