// The most probable tokens of each position, with what is left for all others as one number: a teacher's answer in a few bytes.
import { add, clip, constant, exp, gather, log, logSoftmax, mul, neg, reshape, sub, sum, type Tensor, tensor } from '@lowbit/core';

/** Of each position the `k` most probable tokens. */
export interface TopTokens {
  readonly k: number;
  /** [positions, k], in no order. */
  readonly tokens: Int32Array;
  /** [positions, k] */
  readonly probabilities: Float32Array;
  /** [positions]: probability of all other tokens together. */
  readonly tail: Float32Array;
}

/** The top tokens of rows of probabilities [positions, vocabulary]; of equal ones, the first. */
export function topTokens(probabilities: Float32Array, vocabulary: number, k: number): TopTokens {
  const most = Math.min(k, vocabulary);
  const positions = probabilities.length / vocabulary;
  const tokens = new Int32Array(positions * most);
  const kept = new Float32Array(positions * most);
  const tail = new Float32Array(positions);
  for (let row = 0; row < positions; row++) {
    const heapTokens = tokens.subarray(row * most, (row + 1) * most);
    const heap = kept.subarray(row * most, (row + 1) * most);
    const own = probabilities.subarray(row * vocabulary, (row + 1) * vocabulary);
    for (let i = 0; i < most; i++) [heap[i], heapTokens[i]] = [own[i], i];
    for (let i = (most >> 1) - 1; i >= 0; i--) sink(heap, heapTokens, i);
    for (let i = most; i < vocabulary; i++) {
      if (own[i] > heap[0]) {
        [heap[0], heapTokens[0]] = [own[i], i];
        sink(heap, heapTokens, 0);
      }
    }
    tail[row] = most === vocabulary ? 0 : Math.max(0, 1 - heap.reduce((total, p) => total + p, 0));
  }
  return { k: most, tokens, probabilities: kept, tail };
}

/** Restores the order of a heap whose root is its least element. */
function sink(heap: Float32Array, tokens: Int32Array, from: number): void {
  for (let parent = from; ; ) {
    let least = 2 * parent + 1;
    if (least >= heap.length) return;
    if (least + 1 < heap.length && heap[least + 1] < heap[least]) least++;
    if (heap[parent] <= heap[least]) return;
    [heap[parent], heap[least]] = [heap[least], heap[parent]];
    [tokens[parent], tokens[least]] = [tokens[least], tokens[parent]];
    parent = least;
  }
}

/** Least probability of the tail that the student is taken to give: what float32 can tell from 0 beside 1. */
const LEAST_TAIL = 2 ** -23;

/**
 * KL(teacher‖student) at each position, over the top tokens and one outcome for all others: never more than the divergence over all
 * tokens, and equal to it where k is the whole vocabulary. `logits` [positions, vocabulary] → [positions].
 */
export function topDivergence(logits: Tensor, { k, tokens, probabilities, tail }: TopTokens): Tensor {
  const [positions, vocabulary] = logits.shape;
  const places = tensor(
    tokens.map((token, i) => Math.floor(i / k) * vocabulary + token),
    [positions, k],
  );
  const own = gather(reshape(logSoftmax(logits), [positions * vocabulary]), places, 0);
  const rest = clip(sub(constant(1), sum(exp(own), [-1])), LEAST_TAIL, 1);
  const entropy = tensor(negativeEntropy(probabilities, tail, k));
  const crossed = add(sum(mul(tensor(probabilities, [positions, k]), own), [-1]), mul(tensor(tail), log(rest)));
  return add(entropy, neg(crossed));
}

/** Σ p log p at each position, the tail as one outcome. */
function negativeEntropy(probabilities: Float32Array, tail: Float32Array, k: number): Float32Array {
  const term = (p: number): number => (p > 0 ? p * Math.log(p) : 0);
  return tail.map((rest, row) => probabilities.subarray(row * k, (row + 1) * k).reduce((total, p) => total + term(p), term(rest)));
}
