// What a training run knows between two epochs, and its form in a store.
import { LowbitError, read, type StoreEntry, type Tensor, tensor } from '@lowbit/core';
import type { NamedTensors, OptimizerState } from './optimizer.js';
import { type WorkingState, workingState } from './working-state.js';

export interface TrainingState {
  /** Steps change it in place. */
  readonly optimizer: WorkingState;
  /** Epochs done. */
  readonly epoch: number;
  /** Mean training loss by epoch. */
  readonly losses: readonly number[];
  /** Validation loss of the start. */
  readonly before: number | undefined;
  /** What would be handed back now. */
  readonly kept: { readonly parameters: NamedTensors; readonly epoch: number; readonly validation: number | undefined };
}

/** JSON has no NaN and no infinity. */
type SavedNumber = number | string | undefined;
const saveNumber = (x: number | undefined): SavedNumber => (x === undefined || Number.isFinite(x) ? x : String(x));
const restoreNumber = (x: SavedNumber): number | undefined => (x === undefined ? undefined : Number(x));

/** The state as a store keeps it: tensors under 'parameters.', 'kept.' and the optimizer's slots. */
export function trainingEntry({ optimizer, epoch, losses, before, kept }: TrainingState): StoreEntry {
  const tensors: Record<string, Tensor> = {};
  for (const [role, map] of Object.entries({ parameters: optimizer.parameters, kept: kept.parameters, ...optimizer.slots })) {
    for (const [name, t] of map) tensors[`${role}.${name}`] = t;
  }
  const metadata = {
    epoch,
    losses,
    before: saveNumber(before),
    kept: { epoch: kept.epoch, validation: saveNumber(kept.validation) },
  };
  return { metadata, tensors };
}

/**
 * The inverse; `start` says which tensors there must be.
 * @throws TRAIN_SAVED when the entry lacks one.
 */
export async function restoreTraining({ metadata, tensors }: StoreEntry, start: OptimizerState): Promise<TrainingState> {
  const part = async (role: string): Promise<NamedTensors> => {
    const restored = new Map<string, Tensor>();
    for (const [name, { shape, dtype }] of start.parameters) {
      const stored = tensors[`${role}.${name}`];
      if (!stored) {
        throw new LowbitError('TRAIN_SAVED', `train: the saved state lacks ${role}.${name}; it belongs to another training, delete it`);
      }
      restored.set(name, tensor(await read(stored), shape, dtype));
    }
    return restored;
  };
  const parameters = await part('parameters');
  const slots: Record<string, NamedTensors> = {};
  for (const slot of Object.keys(start.slots)) slots[slot] = await part(slot);
  const { epoch, losses, before, kept } = metadata as {
    epoch: number;
    losses: readonly number[];
    before: SavedNumber;
    kept: { epoch: number; validation: SavedNumber };
  };
  return {
    optimizer: workingState({ parameters, slots }),
    epoch,
    losses,
    before: restoreNumber(before),
    kept: { parameters: await part('kept'), epoch: kept.epoch, validation: restoreNumber(kept.validation) },
  };
}
