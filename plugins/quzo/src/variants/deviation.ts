// Standard deviation of a step's losses.

/** @param denominator the number of values, or one less. */
export function deviation(values: readonly number[], denominator: number): number {
  const mean = values.reduce((total, value) => total + value, 0) / values.length;
  return Math.sqrt(values.reduce((total, value) => total + (value - mean) ** 2, 0) / denominator);
}
