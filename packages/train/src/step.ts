// One training step: loss, gradients and update as a single evaluation.
import { type Backend, grad, readNumber, type Tensor } from '@lowbit/core';
import type { NamedTensors, Optimizer, OptimizerState } from './optimizer.js';

export interface StepRequest {
  readonly backend: Backend;
  readonly optimizer: Optimizer;
  readonly state: OptimizerState;
  /** Builds the loss, a scalar, on the state's parameters. */
  readonly lossOf: (parameters: NamedTensors) => Tensor;
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
  const loss = lossOf(state.parameters);
  const gradients = grad(loss, [...state.parameters.values()]);
  const update = optimizer.update(state, new Map(names.map((name, i) => [name, gradients[i]])), step, learningRate);
  const released = release ? { release: tensorsOfState(state) } : {};
  const [lossValue, norm, ...leaves] = await backend.evaluate([loss, update.gradientNorm, ...tensorsOfState(update.state)], released);
  const part = (index: number): NamedTensors => new Map(names.map((name, i) => [name, leaves[index * names.length + i]]));
  const slots = Object.keys(update.state.slots).map((slot, i): [string, NamedTensors] => [slot, part(i + 1)]);
  return {
    state: { parameters: part(0), slots: Object.fromEntries(slots) },
    loss: await readNumber(lossValue),
    gradientNorm: await readNumber(norm),
  };
}

/** Parameters, then slot by slot, each in the parameters' order. */
function tensorsOfState({ parameters, slots }: OptimizerState): Tensor[] {
  return [parameters, ...Object.values(slots)].flatMap((map) => [...parameters.keys()].map((name) => map.get(name) as Tensor));
}
