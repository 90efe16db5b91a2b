// The state of an optimizer while it is trained: the one thing that is changed in place, so that old values go as new ones come.
import type { Tensor } from '@lowbit/core';
import type { NamedTensors, OptimizerState } from './optimizer.js';

/** Parameters and slots by name. */
export interface WorkingState extends OptimizerState {
  readonly parameters: Map<string, Tensor>;
  readonly slots: Readonly<Record<string, Map<string, Tensor>>>;
}

/** A state whose maps belong to nobody else; the tensors are the same. */
export function workingState({ parameters, slots }: OptimizerState): WorkingState {
  const copies = Object.entries(slots).map(([slot, tensors]): [string, Map<string, Tensor>] => [slot, new Map(tensors)]);
  return { parameters: new Map(parameters), slots: Object.fromEntries(copies) };
}

/** The parameters of these names, and what the optimizer remembers of them. */
export function partOf({ parameters, slots }: OptimizerState, names: readonly string[]): OptimizerState {
  const own = Object.entries(slots).map(([slot, tensors]): [string, NamedTensors] => [slot, pick(tensors, names)]);
  return { parameters: pick(parameters, names), slots: Object.fromEntries(own) };
}

export function pick(tensors: NamedTensors, names: readonly string[]): NamedTensors {
  return new Map(names.map((name) => [name, tensors.get(name) as Tensor]));
}

/** Parameters, then slot by slot, each in the parameters' order. */
export function tensorsOfState({ parameters, slots }: OptimizerState): Tensor[] {
  return [parameters, ...Object.values(slots)].flatMap((map) => [...parameters.keys()].map((name) => map.get(name) as Tensor));
}

/** Puts new values in the place of old ones: those of parameters of these names, in the order of `tensorsOfState`. */
export function replace(state: WorkingState, names: readonly string[], values: readonly Tensor[]): void {
  for (const [part, map] of [state.parameters, ...Object.values(state.slots)].entries()) {
    for (const [i, name] of names.entries()) map.set(name, values[part * names.length + i]);
  }
}
