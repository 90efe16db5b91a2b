// One counter for a step's whole walk over the blocks, so that the time left can be told from its pace.
import type { RunEvent } from '@lowbit/core';

/**
 * Counts units of work: a batch through a block or into a statistic, a Linear quantized. Units differ in cost, but every block
 * has the same mix of them, so the pace over blocks is even.
 */
export class WalkProgress {
  readonly #emit: (event: RunEvent) => void;
  readonly #step: number;
  /** Units done when each block begins, and the total at the end. */
  readonly #starts: readonly number[];
  #done = 0;

  constructor(emit: (event: RunEvent) => void, step: number, unitsOfBlocks: readonly number[]) {
    this.#emit = emit;
    this.#step = step;
    const starts = [0];
    for (const [i, units] of unitsOfBlocks.entries()) starts.push(starts[i] + units);
    this.#starts = starts;
  }

  /** Work on block `index` begins, whatever was left out of the blocks before it. */
  enter(index: number): void {
    this.#done = this.#starts[index];
  }

  advance(path: string, units = 1): void {
    this.#done += units;
    this.#report(path, this.#done);
  }

  /** Reports parts of the next `units`; `advance` counts them when they are done. */
  within(path: string, units: number): (done: number, total: number) => void {
    return (done, total) => this.#report(path, this.#done + (total > 0 ? (units * Math.min(done, total)) / total : 0));
  }

  #report(path: string, done: number): void {
    const total = this.#starts[this.#starts.length - 1];
    this.#emit({ type: 'progress', step: this.#step, stage: 'quantize', path, done: Math.min(Math.floor(done), total), total });
  }
}
