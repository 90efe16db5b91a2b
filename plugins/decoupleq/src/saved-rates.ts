// The state of a search over learning rates, in the form of a store: what was best so far, and the training under way.
import type { StoreEntry, Tensor } from '@lowbit/core';
import type { NamedTensors, TrainResult } from '@lowbit/train';

/** The training with one learning rate. */
export interface RateOutcome {
  readonly rate: number;
  /** What outcomes are compared by. */
  readonly loss: number;
  readonly result: TrainResult;
}

export interface RateSearchState {
  /** Index of the rate that is trained, or is next. */
  readonly next: number;
  readonly best: RateOutcome | undefined;
  /** Rates that left the finite numbers. */
  readonly diverged: readonly number[];
  /** What the training with rate `next` saved last. */
  readonly training: StoreEntry | undefined;
}

type SavedBest = Omit<RateOutcome, 'result'> & { readonly result: Omit<TrainResult, 'parameters'> };

const prefixed = (prefix: string, tensors: Iterable<readonly [string, Tensor]>): Record<string, Tensor> =>
  Object.fromEntries([...tensors].map(([name, t]) => [`${prefix}${name}`, t]));

export function saveRates({ next, best, diverged, training }: RateSearchState): StoreEntry {
  const { parameters = new Map<string, Tensor>(), ...result } = best?.result ?? {};
  return {
    metadata: { next, diverged, best: best && { ...best, result }, training: training?.metadata },
    tensors: { ...prefixed('best.', parameters), ...prefixed('training.', Object.entries(training?.tensors ?? {})) },
  };
}

/** The inverse, or the state before the first rate. `parameters` name what is trained. */
export function restoreRates(entry: StoreEntry | undefined, parameters: NamedTensors): RateSearchState {
  if (!entry) return { next: 0, best: undefined, diverged: [], training: undefined };
  const { next, diverged, best, training } = entry.metadata as {
    next: number;
    diverged: readonly number[];
    best?: SavedBest;
    training?: StoreEntry['metadata'];
  };
  const below = (prefix: string): Record<string, Tensor> =>
    Object.fromEntries(
      Object.entries(entry.tensors).flatMap(([name, t]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), t]] : [])),
    );
  const stored = below('best.');
  return {
    next,
    diverged,
    best: best && { ...best, result: { ...best.result, parameters: new Map([...parameters.keys()].map((name) => [name, stored[name]])) } },
    training: training && { metadata: training, tensors: below('training.') },
  };
}
