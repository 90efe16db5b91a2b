// Normal numbers by looking them up: a random index into the means of equally probable pieces of the distribution.

const PIECES = 2 ** 16;

const density = (x: number): number => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);

/** Φ(x) − 1/2 for 0 ≤ x < 6: φ(x) · Σ x^(2n+1) / (1·3·5···(2n+1)). */
function probabilityTo(x: number): number {
  let term = x;
  let total = x;
  for (let odd = 3; term > 1e-17 * total; odd += 2) {
    term *= (x * x) / odd;
    total += term;
  }
  return density(x) * total;
}

let made: Float32Array | undefined;

/**
 * Means of N(0, 1) over 65536 pieces of equal probability, in order, scaled to unit variance: a draw of one has mean 0, variance 1, a
 * kurtosis of 3 within 1e-3, and no magnitude above 4.4. Ten times as fast as Box-Muller.
 */
export function normalTable(): Float32Array {
  made ??= makeTable();
  return made;
}

function makeTable(): Float32Array {
  const half = PIECES / 2;
  const means = new Float64Array(half);
  let edge = 0;
  let squares = 0;
  for (let piece = 0; piece < half; piece++) {
    const below = density(edge);
    const isLast = piece === half - 1;
    if (!isLast) edge = edgeAt((piece + 1) / PIECES, edge);
    means[piece] = PIECES * (below - (isLast ? 0 : density(edge)));
    squares += means[piece] ** 2;
  }
  const scale = 1 / Math.sqrt(squares / half);
  const table = new Float32Array(PIECES);
  for (let piece = 0; piece < half; piece++) {
    table[half + piece] = means[piece] * scale;
    table[half - 1 - piece] = -table[half + piece];
  }
  return table;
}

/** x with Φ(x) − 1/2 = p, by Newton's method from an x below it. */
function edgeAt(p: number, below: number): number {
  let x = below;
  for (let i = 0; i < 50; i++) {
    const step = (p - probabilityTo(x)) / density(x);
    x += step;
    if (Math.abs(step) < 1e-13) break;
  }
  return x;
}
