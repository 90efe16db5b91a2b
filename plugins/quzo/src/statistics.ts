// Figures of a round: what the log tells of directional derivatives and of updates.
import type { Applied } from './hooks.js';

/** Float32 losses are exact to about this share of them: what 1 / 2ε amplifies (specification of float32, 2^-23). */
const LOSS_NOISE = 1e-7;

/** Derivatives of which more than this share is such noise say little. */
const NOISE_SHARE = 0.1;

export class RoundStatistics {
  #losses = 0;
  #lossCount = 0;
  #mu: number[] = [];
  #noisy = 0;
  #changed = 0;
  #clamped = 0;
  #steps = 0;
  #skipped = 0;

  /** A step that was taken. */
  add(loss: number, mu: readonly number[], { changed, clamped }: Applied, epsilon: number): void {
    this.#steps++;
    this.#losses += loss;
    this.#lossCount++;
    this.#mu.push(...mu);
    for (const slope of mu) if ((LOSS_NOISE * loss) / (2 * epsilon) > NOISE_SHARE * Math.abs(slope)) this.#noisy++;
    this.#changed += changed;
    this.#clamped += clamped;
  }

  skip(): void {
    this.#steps++;
    this.#skipped++;
  }

  /** Derivatives of this round, and how many of them are too close to the noise of the loss. */
  get resolution(): { readonly count: number; readonly noisy: number } {
    return { count: this.#mu.length, noisy: this.#noisy };
  }

  get skipped(): number {
    return this.#skipped;
  }

  /** For the log. `loss`: mean over the steps' losses at the perturbed models. */
  record(): Record<string, number | undefined> {
    const count = this.#mu.length;
    const mean = this.#mu.reduce((sum, x) => sum + x, 0) / count;
    const variance = this.#mu.reduce((sum, x) => sum + (x - mean) ** 2, 0) / count;
    return {
      loss: this.#lossCount > 0 ? this.#losses / this.#lossCount : undefined,
      muMean: count > 0 ? mean : undefined,
      muDeviation: count > 0 ? Math.sqrt(variance) : undefined,
      muLargest: count > 0 ? this.#mu.reduce((most, x) => Math.max(most, Math.abs(x)), 0) : undefined,
      noisyShare: count > 0 ? this.#noisy / count : undefined,
      changedPerStep: this.#changed / this.#steps,
      clamped: this.#clamped,
      skippedSteps: this.#skipped,
    };
  }
}
