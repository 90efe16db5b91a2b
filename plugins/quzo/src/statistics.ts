// Figures of a round: what the log tells of directional derivatives and of updates.
import type { Derivatives } from './derivatives.js';
import type { Applied } from './hooks.js';

export class RoundStatistics {
  readonly #losses: number[] = [];
  readonly #mu: number[] = [];
  #noisy = 0;
  #changed = 0;
  #clamped = 0;
  #skipped = 0;

  add({ loss, mu, noisy }: Derivatives, { changed, clamped }: Applied): void {
    if (!mu) {
      this.#skipped++;
      return;
    }
    this.#losses.push(loss);
    this.#mu.push(...mu);
    this.#noisy += noisy;
    this.#changed += changed;
    this.#clamped += clamped;
  }

  /** Queries whose losses were finite. */
  get queries(): number {
    return this.#mu.length;
  }

  /** Those of them whose losses are too close to tell apart. */
  get noisy(): number {
    return this.#noisy;
  }

  /** For the log. `loss`: mean over the steps' losses at the perturbed models. Nothing but `skippedSteps` where all steps were skipped. */
  record(): Record<string, number> {
    const [steps, queries] = [this.#losses.length, this.#mu.length];
    if (steps === 0) return { skippedSteps: this.#skipped };
    const mean = this.#mu.reduce((sum, x) => sum + x, 0) / queries;
    const variance = this.#mu.reduce((sum, x) => sum + (x - mean) ** 2, 0) / queries;
    return {
      loss: this.#losses.reduce((sum, x) => sum + x, 0) / steps,
      muMean: mean,
      muDeviation: Math.sqrt(variance),
      muLargest: this.#mu.reduce((most, x) => Math.max(most, Math.abs(x)), 0),
      noisyShare: this.#noisy / queries,
      changedPerStep: this.#changed / steps,
      clamped: this.#clamped,
      skippedSteps: this.#skipped,
    };
  }
}
