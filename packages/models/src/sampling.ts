// Picks a token from a probability distribution with one uniform number.

export interface SamplingLimits {
  /** Only the K most probable tokens. */
  readonly topK?: number | undefined;
  /** Only the smallest set of most probable tokens whose probabilities sum to P or more (arXiv 1904.09751), after `topK`. */
  readonly topP?: number | undefined;
}

/**
 * Inverts the cumulative distribution at `uniform` in [0, 1). `probabilities` need not sum to exactly 1; among equal ones the lower
 * token id counts as the more probable.
 */
export function sampleToken(probabilities: Float32Array, uniform: number, { topK, topP }: SamplingLimits = {}): number {
  if (topK === undefined && topP === undefined) return invert(probabilities, probabilities.length, (i) => i, uniform);
  const tokens = mostProbable(probabilities, topK ?? probabilities.length);
  const kept = topP === undefined ? tokens.length : nucleusSize(probabilities, tokens, topP);
  return invert(probabilities, kept, (i) => tokens[i], uniform);
}

/** The first of `count` tokens at which the running sum passes `uniform` times their total. */
function invert(probabilities: Float32Array, count: number, tokenAt: (index: number) => number, uniform: number): number {
  let total = 0;
  for (let i = 0; i < count; i++) total += probabilities[tokenAt(i)];
  const target = uniform * total;
  let sum = 0;
  let last = 0;
  for (let i = 0; i < count; i++) {
    const token = tokenAt(i);
    if (probabilities[token] === 0) continue;
    sum += probabilities[token];
    last = token;
    if (sum > target) return token;
  }
  return last; // the sum fell short of its own total by rounding
}

/** Ids of the `count` most probable tokens, most probable first. */
function mostProbable(probabilities: Float32Array, count: number): Int32Array {
  const threshold = count < probabilities.length ? Float32Array.from(probabilities).sort()[probabilities.length - count] : 0;
  const candidates: number[] = [];
  for (let i = 0; i < probabilities.length; i++) if (probabilities[i] >= threshold) candidates.push(i);
  candidates.sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  return Int32Array.from(candidates.slice(0, count));
}

function nucleusSize(probabilities: Float32Array, tokens: Int32Array, topP: number): number {
  const target = topP * tokens.reduce((total, token) => total + probabilities[token], 0);
  let sum = 0;
  let size = 0;
  while (size < tokens.length && (size === 0 || sum < target)) sum += probabilities[tokens[size++]];
  return size;
}
