// Several learning rates tried in turn, the best kept; an interrupted search goes on where it was.
import type { StoreEntry, Tensor } from '@lowbit/core';
import type { TrainOptions, TrainResult } from './train.js';

/** The training with one learning rate. */
export interface RateOutcome {
  readonly rate: number;
  /** What outcomes are compared by. */
  readonly loss: number;
  readonly result: TrainResult;
}

/** What of a training belongs to the search. */
export type Resumption = Pick<TrainOptions<unknown>, 'saved' | 'save' | 'progress'>;

export interface RateSearch {
  /** At least one. */
  readonly rates: readonly number[];
  /** Trains from the start; `resumption` is passed on to `train`. */
  train(rate: number, resumption: Resumption): Promise<TrainResult>;
  /** What outcomes are compared by: the validation loss of what was kept, for example. Asked for where there are several. */
  lossOf(result: TrainResult): Promise<number> | number;
  readonly saved: StoreEntry | undefined;
  save(entry: StoreEntry): Promise<void>;
  progress(done: number, total: number): void;
}

export interface RateSearchResult {
  readonly best: RateOutcome;
  /** Rates that left the finite numbers. */
  readonly diverged: readonly number[];
}

/** Trains with each learning rate and keeps the outcome of least loss, of equals the first. */
export async function searchRates(search: RateSearch): Promise<RateSearchResult> {
  const { rates } = search;
  let { next, best, diverged, training } = restored(search.saved);
  for (; next < rates.length; next++) {
    const rate = rates[next];
    const soFar = { next, best, diverged };
    const result = await search.train(rate, {
      saved: training,
      save: (entry) => search.save(entryOf({ ...soFar, training: entry })),
      progress: (done, total) => search.progress(next * total + done, rates.length * total),
    });
    training = undefined;
    if (result.diverged) diverged = [...diverged, rate];
    const loss = rates.length === 1 ? 0 : await search.lossOf(result);
    if (!best || loss < best.loss || !Number.isFinite(best.loss)) best = { rate, loss, result };
    if (next + 1 < rates.length) await search.save(entryOf({ next: next + 1, best, diverged, training }));
  }
  return { best: best as RateOutcome, diverged };
}

interface SearchState {
  /** Index of the rate that is trained, or is next. */
  readonly next: number;
  readonly best: RateOutcome | undefined;
  readonly diverged: readonly number[];
  /** What the training with rate `next` saved last. */
  readonly training: StoreEntry | undefined;
}

type SavedBest = Omit<RateOutcome, 'result'> & { readonly result: Omit<TrainResult, 'parameters'> };

const prefixed = (prefix: string, tensors: Iterable<readonly [string, Tensor]>): Record<string, Tensor> =>
  Object.fromEntries([...tensors].map(([name, t]) => [`${prefix}${name}`, t]));

function entryOf({ next, best, diverged, training }: SearchState): StoreEntry {
  const { parameters = new Map<string, Tensor>(), ...result } = best?.result ?? {};
  return {
    metadata: { next, diverged, best: best && { ...best, result }, training: training?.metadata },
    tensors: { ...prefixed('best.', parameters), ...prefixed('training.', Object.entries(training?.tensors ?? {})) },
  };
}

/** The inverse, or the state before the first rate. */
function restored(entry: StoreEntry | undefined): SearchState {
  if (!entry) return { next: 0, best: undefined, diverged: [], training: undefined };
  const { next, diverged, best, training } = entry.metadata as {
    next: number;
    diverged: readonly number[];
    best?: SavedBest;
    training?: StoreEntry['metadata'];
  };
  const below = (prefix: string): [string, Tensor][] =>
    Object.entries(entry.tensors).flatMap(([name, t]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), t]] : []));
  return {
    next,
    diverged,
    best: best && { ...best, result: { ...best.result, parameters: new Map(below('best.')) } },
    training: training && { metadata: training, tensors: Object.fromEntries(below('training.')) },
  };
}
