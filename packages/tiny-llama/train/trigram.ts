// The baseline a language model has to beat: an interpolated Kneser-Ney trigram over the same token ids.
// Kneser and Ney, ICASSP 1995; the interpolated form and the discount estimate n₁/(n₁+2n₂) of Chen and Goodman, 1999.

/** Counts of one order with what interpolation needs: totals and distinct continuations by context. */
interface Order {
  readonly counts: Map<number, number>;
  readonly totals: Map<number, number>;
  readonly followers: Map<number, number>;
  readonly discount: number;
}

export interface Trigram {
  /** P(token | two tokens before it), or fewer where the text starts. */
  probability(before2: number | undefined, before1: number | undefined, token: number): number;
}

function order(counts: Map<number, number>, contextOf: (key: number) => number): Order {
  const totals = new Map<number, number>();
  const followers = new Map<number, number>();
  let once = 0;
  let twice = 0;
  for (const [key, count] of counts) {
    const context = contextOf(key);
    totals.set(context, (totals.get(context) ?? 0) + count);
    followers.set(context, (followers.get(context) ?? 0) + 1);
    if (count === 1) once++;
    if (count === 2) twice++;
  }
  return { counts, totals, followers, discount: once === 0 ? 0 : once / (once + 2 * twice) };
}

/** How many distinct tokens precede each shorter n-gram: Kneser-Ney's counts of the lower orders. */
function continuationCounts(counts: Map<number, number>, withoutFirst: (key: number) => number): Map<number, number> {
  const continuations = new Map<number, number>();
  for (const key of counts.keys()) {
    const shorter = withoutFirst(key);
    continuations.set(shorter, (continuations.get(shorter) ?? 0) + 1);
  }
  return continuations;
}

/** Counts a token stream. An n-gram's key is its ids as digits of base `vocabulary`. */
export function trainTrigram(tokens: ArrayLike<number>, vocabulary: number): Trigram {
  const squared = vocabulary * vocabulary;
  const counts = new Map<number, number>();
  for (let i = 2; i < tokens.length; i++) {
    const key = tokens[i - 2] * squared + tokens[i - 1] * vocabulary + tokens[i];
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const three = order(counts, (key) => Math.floor(key / vocabulary));
  const two = order(
    continuationCounts(counts, (key) => key % squared),
    (key) => Math.floor(key / vocabulary),
  );
  const one = order(
    continuationCounts(two.counts, (key) => key % vocabulary),
    () => 0,
  );
  const interpolate = ({ counts: seen, totals, followers, discount }: Order, context: number, key: number, lower: number): number => {
    const total = totals.get(context);
    if (!total) return lower;
    return (Math.max((seen.get(key) ?? 0) - discount, 0) + discount * (followers.get(context) ?? 0) * lower) / total;
  };
  return {
    probability(before2, before1, token) {
      const unigram = interpolate(one, 0, token, 1 / vocabulary);
      if (before1 === undefined) return unigram;
      const bigram = interpolate(two, before1, before1 * vocabulary + token, unigram);
      if (before2 === undefined) return bigram;
      const context = before2 * vocabulary + before1;
      return interpolate(three, context, context * vocabulary + token, bigram);
    },
  };
}

/**
 * Mean negative log probability in nats of the tokens a language model is scored on: positions 1 … length−1 of consecutive windows.
 * The trigram sees the tokens before a window as well, which favours it.
 */
export function trigramLoss(model: Trigram, tokens: ArrayLike<number>, length: number): number {
  const end = tokens.length - (tokens.length % length);
  let total = 0;
  let scored = 0;
  for (let i = 1; i < end; i++) {
    if (i % length === 0) continue;
    total -= Math.log(model.probability(i >= 2 ? tokens[i - 2] : undefined, tokens[i - 1], tokens[i]));
    scored++;
  }
  return total / scored;
}
