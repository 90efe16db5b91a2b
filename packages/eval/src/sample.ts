// Means of values that do not depend on each other, with their standard errors.
import type { Estimate } from './ratio.js';

/** Mean, and its standard error from the deviation of the sample: NaN of a single value, of which it is not known. */
export function meanOf(values: readonly number[]): Estimate {
  const value = values.reduce((sum, one) => sum + one, 0) / values.length;
  return { value, stderr: deviationOf(values) / Math.sqrt(values.length) };
}

/** Standard deviation of a sample, with n − 1: NaN of a single value. */
export function deviationOf(values: readonly number[]): number {
  const center = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - center) ** 2, 0) / (values.length - 1));
}
