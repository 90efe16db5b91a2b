// Picks a token from a probability distribution with one uniform number.
import { LowbitError } from '@lowbit/core';

export interface SamplingLimits {
  /** Only the K most probable tokens. */
  readonly topK?: number | undefined;
  /** Only the smallest set of most probable tokens whose share reaches P (arXiv 1904.09751), after `topK`. */
  readonly topP?: number | undefined;
}

/**
 * Inverts the cumulative distribution at `uniform` in [0, 1). `probabilities` need not sum to exactly 1; of equal ones the lower
 * token id counts as the more probable.
 * @throws LOGITS_NOT_FINITE when they are not numbers.
 */
export function sampleToken(probabilities: Float32Array, uniform: number, { topK, topP }: SamplingLimits = {}): number {
  if (topK === undefined && topP === undefined) return invert(probabilities, uniform);
  const tokens = topK === undefined ? nucleusCandidates(probabilities, topP ?? 1) : mostProbable(probabilities, topK);
  const kept = Float32Array.from(tokens, (token) => probabilities[token]);
  const total = topK === undefined ? sum(probabilities) : sum(kept);
  return tokens[invert(kept.subarray(0, topP === undefined ? kept.length : nucleusSize(kept, topP * total)), uniform)];
}

function sum(values: Float32Array): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i];
  return total;
}

/** The first index at which the running sum passes `uniform` times the total. */
function invert(weights: Float32Array, uniform: number): number {
  const target = uniform * sum(weights);
  let running = 0;
  for (let i = 0; i < weights.length; i++) {
    running += weights[i];
    if (running > target) return i;
  }
  throw new LowbitError(
    'LOGITS_NOT_FINITE',
    'generate: the model gave probabilities that are not numbers; its weights are damaged or were quantized into overflow',
  );
}

/** Ids of the `count` most probable tokens, most probable first. */
function mostProbable(probabilities: Float32Array, count: number): number[] {
  const best: number[] = [];
  for (let token = 0; token < probabilities.length; token++) {
    const p = probabilities[token];
    if (best.length === count && p <= probabilities[best[count - 1]]) continue;
    let low = 0;
    for (let high = best.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (probabilities[best[middle]] >= p) low = middle + 1;
      else high = middle;
    }
    best.splice(low, 0, token);
    if (best.length > count) best.pop();
  }
  return best;
}

/**
 * Tokens among which the nucleus lies, most probable first: all those below (1 − P) / V sum to less than 1 − P, so that none of them
 * is needed.
 */
function nucleusCandidates(probabilities: Float32Array, topP: number): number[] {
  const cutoff = ((1 - topP) * sum(probabilities)) / probabilities.length;
  const candidates: number[] = [];
  for (let token = 0; token < probabilities.length; token++) if (probabilities[token] >= cutoff) candidates.push(token);
  return candidates.sort((a, b) => probabilities[b] - probabilities[a] || a - b);
}

/** How many of the descending `weights` it takes to reach `target`; at least one. */
function nucleusSize(weights: Float32Array, target: number): number {
  let size = 1;
  for (let reached = weights[0]; size < weights.length && reached < target; ) reached += weights[size++];
  return size;
}
