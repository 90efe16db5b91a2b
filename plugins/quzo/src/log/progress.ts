// How far a run has come: its log and its judgements, as a store keeps them.
import { LowbitError, type StoreEntry } from '@lowbit/core';
import type { TaskResult } from '@lowbit/train';
import type { QuzoOptions } from '../options.js';
import { parseTrajectory, type StepRecord, type TrajectoryHeader } from './trajectory.js';

export interface Judgement extends TaskResult {
  /** After so many steps. */
  readonly step: number;
}

/** A run before its first step, with the digest of its model. */
export type Start = TrajectoryHeader & { readonly start: string };

/** Steps in a row whose losses are not finite, after which a run ends. */
const MOST_SKIPPED = 16;

export class Progress {
  readonly records: StepRecord[];
  readonly judged: Judgement[];

  constructor(records: readonly StepRecord[] = [], judged: readonly Judgement[] = []) {
    this.records = [...records];
    this.judged = [...judged];
  }

  judge(step: number, { loss, accuracy }: TaskResult): void {
    this.judged.push({ step, loss, accuracy });
  }

  /** The judgement of least loss, the first of equal ones. */
  get best(): Judgement {
    return this.judged.reduce((best, one) => (one.loss < best.loss || Number.isNaN(best.loss) ? one : best));
  }

  get judgementsWithoutGain(): number {
    return this.judged.length - 1 - this.judged.indexOf(this.best);
  }

  /** Steps whose losses were not finite. */
  get skipped(): number {
    return this.records.filter(({ mu }) => mu.length === 0).length;
  }

  get hasDiverged(): boolean {
    const last = this.records.slice(-MOST_SKIPPED);
    return last.length === MOST_SKIPPED && last.every(({ mu }) => mu.length === 0);
  }

  /** Whether what it has come to is to be judged and is not yet: the start, every so many steps, and the end. */
  isDue({ judgeEvery, steps }: Pick<QuzoOptions, 'judgeEvery' | 'steps'>): boolean {
    const taken = this.records.length;
    if (this.judged.some(({ step }) => step === taken)) return false;
    return taken % judgeEvery === 0 || taken >= steps || this.hasDiverged;
  }

  isOver({ steps, patience = Infinity }: Pick<QuzoOptions, 'steps' | 'patience'>): boolean {
    return this.records.length >= steps || this.hasDiverged || this.judgementsWithoutGain >= patience;
  }

  /** JSON has no NaN and no infinity. */
  entry(header: Start): StoreEntry {
    const judged = this.judged.map(({ step, loss, accuracy }) => ({ step, loss: String(loss), accuracy: String(accuracy) }));
    return { metadata: { trajectory: { ...header, records: this.records }, judged }, tensors: {} };
  }
}

/** Goes on from what a store has. @throws QUZO_SAVED when it belongs to another run. */
export function resumedFrom({ metadata }: StoreEntry, header: Start): Progress {
  const { trajectory, judged } = metadata as { trajectory: unknown; judged: { step: number; loss: string; accuracy: string }[] };
  const { records, ...saved } = parseTrajectory(trajectory);
  if (canonical(saved) !== canonical(header)) {
    throw new LowbitError('QUZO_SAVED', 'quzo: the saved state belongs to a run with other options, parameters or draws; delete it');
  }
  return new Progress(
    records,
    judged.map(({ step, loss, accuracy }) => ({ step, loss: Number(loss), accuracy: Number(accuracy) })),
  );
}

/** JSON with the keys of all objects in order. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
