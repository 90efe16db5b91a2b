// Python's random.Random(seed).sample: which examples the harness shows before a question depends on it.
// Mersenne Twister: Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 8(1), 1998.

const SIZE = 624;
const SHIFT = 397;

/** A source of 32-bit words, seeded as Python seeds one with an integer below 2³². */
function mersenneTwister(seed: number): () => number {
  const state = new Uint32Array(SIZE);
  const mix = (i: number): number => state[i - 1] ^ (state[i - 1] >>> 30);
  state[0] = 19650218;
  for (let i = 1; i < SIZE; i++) state[i] = Math.imul(mix(i), 1812433253) + i;
  // The key has one word, so that its index is always 0.
  let i = 1;
  const advance = (): void => {
    if (++i < SIZE) return;
    state[0] = state[SIZE - 1];
    i = 1;
  };
  for (let round = 0; round < SIZE; round++) {
    state[i] = (state[i] ^ Math.imul(mix(i), 1664525)) + seed;
    advance();
  }
  for (let round = 1; round < SIZE; round++) {
    state[i] = (state[i] ^ Math.imul(mix(i), 1566083941)) - i;
    advance();
  }
  state[0] = 0x80000000;

  let next = SIZE;
  return () => {
    if (next === SIZE) {
      for (let k = 0; k < SIZE; k++) {
        const word = (state[k] & 0x80000000) | (state[(k + 1) % SIZE] & 0x7fffffff);
        state[k] = state[(k + SHIFT) % SIZE] ^ (word >>> 1) ^ (word & 1 ? 0x9908b0df : 0);
      }
      next = 0;
    }
    let word = state[next++];
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  };
}

/** Draws as `random.Random(seed)` does, one after the other. */
export interface PythonRandom {
  /** `count` different indices below `size`. */
  sample(size: number, count: number): number[];
}

export function pythonRandom(seed: number): PythonRandom {
  const word = mersenneTwister(seed);
  const below = (bound: number): number => {
    const bits = 32 - Math.clz32(bound);
    for (;;) {
      const value = word() >>> (32 - bits);
      if (value < bound) return value;
    }
  };
  return {
    sample(size, count) {
      // Python keeps a list where that is smaller than a set.
      const largest = 21 + (count > 5 ? 4 ** Math.ceil(Math.log(count * 3) / Math.log(4)) : 0);
      if (size > largest) {
        const chosen = new Set<number>();
        while (chosen.size < count) chosen.add(below(size));
        return [...chosen];
      }
      const pool = Array.from({ length: size }, (_, i) => i);
      return Array.from({ length: count }, (_, i) => {
        const at = below(size - i);
        const drawn = pool[at];
        pool[at] = pool[size - i - 1];
        return drawn;
      });
    },
  };
}
