// One training step: loss, gradients and update as a single evaluation; or, where the gradients have been computed, the update alone, some
// parameters at a time.
import { type Backend, grad, readNumber, Tensor } from '@lowbit/core';
import type { LossGradients } from './loss.js';
import { type NamedTensors, normOf, type Optimizer, type OptimizerState } from './optimizer.js';
import { portionsOf } from './portions.js';
import { partOf, pick, replace, tensorsOfState, type WorkingState, workingState } from './working-state.js';

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

/** What a step finds out. */
export interface StepFigures {
  /** Before the update. */
  readonly loss: number;
  /** Global norm of the gradients before clipping. */
  readonly gradientNorm: number;
}

export interface StepResult extends StepFigures {
  readonly state: OptimizerState;
}

/** Makes one update. */
export async function trainStep(request: StepRequest): Promise<StepResult> {
  const state = workingState(request.state);
  return { ...(await stepInPlace({ ...request, state })), state };
}

/** The same, the new state in the place of the old one. */
export async function stepInPlace(request: StepRequest & { readonly state: WorkingState }): Promise<StepFigures> {
  const { state, lossOf } = request;
  const made = await lossOf(state.parameters);
  return made instanceof Tensor ? updateAtOnce(request, made) : updateInParts(request, made);
}

type WorkingRequest = StepRequest & { readonly state: WorkingState };

async function updateAtOnce(
  { backend, optimizer, state, step, learningRate, release = false }: WorkingRequest,
  made: Tensor,
): Promise<StepFigures> {
  const names = [...state.parameters.keys()];
  const gradients = grad(made, [...state.parameters.values()]);
  const update = optimizer.update(state, new Map(names.map((name, i) => [name, gradients[i]])), step, learningRate);
  const results = [made, update.gradientNorm, ...tensorsOfState(update.state)];
  const [loss, norm, ...values] = await backend.evaluate(results, { release: release ? tensorsOfState(state) : [] });
  replace(state, names, values);
  return { loss: await readNumber(loss), gradientNorm: await readNumber(norm) };
}

async function updateInParts(
  { backend, optimizer, state, step, learningRate, release = false }: WorkingRequest,
  { loss, gradients }: LossGradients,
): Promise<StepFigures> {
  const [norm] = await backend.evaluate([normOf(gradients)]);
  for (const names of portionsOf(state.parameters)) {
    const old = partOf(state, names);
    const own = pick(gradients, names);
    const update = optimizer.update(old, own, step, learningRate, norm);
    const spent = release ? [...own.values(), ...tensorsOfState(old)] : [...own.values()];
    replace(state, names, await backend.evaluate(tensorsOfState(update.state), { release: spent }));
  }
  // Float32, as a loss that is a graph.
  return { loss: Math.fround(loss), gradientNorm: await readNumber(norm) };
}
