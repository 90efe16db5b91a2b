// How much stochastic rounding adds to the second moment of a direction.

/** E[f(1 − f)] for the fraction f of x ~ N(0, deviation²), by the Fourier series f(1 − f) = 1/6 − Σ cos(2πkx) / (πk)². */
export function meanFractionVariance(deviation: number): number {
  let total = 1 / 6;
  for (let k = 1; ; k++) {
    const exponent = 2 * (Math.PI * k * deviation) ** 2;
    if (exponent > 40) return total;
    total -= Math.exp(-exponent) / (Math.PI * k) ** 2;
  }
}

/** The same for x = ±deviation: exact. */
export function fractionVariance(deviation: number): number {
  const fraction = deviation - Math.floor(deviation);
  return fraction * (1 - fraction);
}
