// Means over tokens and their standard errors, when tokens come in windows.

/** Sums of a quantity over the scored tokens, by window. */
export interface WindowSums {
  /** Σ over the window's tokens. */
  readonly sums: Float64Array;
  /** Σ of squares over all tokens; used only when there is one window. */
  readonly squares: number;
}

export interface Estimate {
  readonly value: number;
  readonly stderr: number;
  /** What each window makes of it, where there are several: their mean is `value`, the standard error of their mean `stderr`. */
  readonly byWindow?: readonly number[] | undefined;
}

/** How the standard errors below were obtained, for the record. */
export function standardErrorRule(windows: number): string {
  return windows > 1 ? 'between windows' : 'between tokens of the one window';
}

/**
 * Mean per token m = Σ S_w / Σ n_w and its standard error. Tokens of one window depend on each other, so that windows are the units: the
 * ratio estimator's linearization (Cochran, Sampling Techniques, 3rd ed., section 6.4) gives
 * se² = K/(K−1) · Σ_w (S_w − m n_w)² / (Σ n_w)².
 * By window that is m + K (S_w − m n_w) / Σ n_w: the window's own mean where all have equally many tokens.
 */
export function meanPerToken({ sums, squares }: WindowSums, counts: Float64Array): Estimate {
  const windows = sums.length;
  const total = counts.reduce((a, b) => a + b, 0);
  const value = sums.reduce((a, b) => a + b, 0) / total;
  if (windows === 1) {
    const variance = total > 1 ? Math.max(0, squares - total * value * value) / (total - 1) : Number.NaN;
    return { value, stderr: Math.sqrt(variance / total) };
  }
  const residuals = Array.from(sums, (sum, w) => sum - value * counts[w]);
  const spread = residuals.reduce((a, residual) => a + residual ** 2, 0);
  const byWindow = residuals.map((residual) => value + (windows * residual) / total);
  return { value, stderr: Math.sqrt((windows / (windows - 1)) * spread) / total, byWindow };
}

/** exp of an estimate; by the delta method its standard error is exp(m) · se(m), and windows are as far from it. */
export function exponentiate({ value, stderr, byWindow }: Estimate): Estimate {
  const factor = Math.exp(value);
  return { value: factor, stderr: factor * stderr, byWindow: byWindow?.map((one) => factor * (1 + one - value)) };
}
