// Addresses of draws: every (run seed, step, query, tensor, stream) has a key of its own.
import { LowbitError } from '@lowbit/core';
import type { Draws, Stream, StreamKey } from '../hooks.js';
import { mix } from './noise.js';

const streams: Readonly<Record<Stream, number>> = { noise: 0, round1: 1, round2: 2, update: 3, mask: 4, radius: 5, lazy: 6 };

/** Bits of an address beside the tensor: 21 for the step, 8 for the query, 3 for the stream. */
export const MOST_STEPS = 2 ** 21 - 1;
export const MOST_QUERIES = 2 ** 8;

const ROUNDS = 6;

/** FNV-1a of a name, from a start that depends on the seed. */
function hashName(name: string, seed: number): number {
  let hash = seed;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return mix(hash);
}

/**
 * Draws below a seed, from 0 to 2^53 − 1. The 64 bits of an address (hash of the tensor's name; step, query, stream) go through a Feistel
 * network, which is a bijection: two addresses share a key only where the hashes of two names are equal, which `checkNames` excludes.
 */
export function createDraws(runSeed: number): Draws {
  const low = runSeed >>> 0;
  const high = Math.floor(runSeed / 2 ** 32) >>> 0;
  const roundKeys = Int32Array.from({ length: ROUNDS }, (_, round) => mix(mix(low + Math.imul(round + 1, 0x9e3779b9)) + high));
  const at = (step: number, query: number): Draws => ({
    step,
    query,
    at,
    key(stream, tensor): StreamKey {
      let left = hashName(tensor, roundKeys[0]);
      let right = (step << 11) | (query << 3) | streams[stream];
      for (const roundKey of roundKeys) [left, right] = [right, left ^ mix(right + roundKey)];
      return { low: left, high: right };
    },
  });
  return at(0, 0);
}

/** @throws QUZO_NAMES when the hashes of two names are equal below a seed: one in a million runs of a hundred tensors. */
export function checkNames(names: readonly string[], runSeed: number): void {
  const draws = createDraws(runSeed);
  const known = new Map<number, string>();
  for (const name of ['', ...names]) {
    // Equal hashes make equal keys.
    const { low, high } = draws.key('noise', name);
    const key = (low >>> 0) * 2 ** 21 + (high >>> 11);
    const twin = known.get(key);
    if (twin !== undefined) {
      throw new LowbitError('QUZO_NAMES', `quzo: '${twin}' and '${name}' would draw the same numbers; take another seed`);
    }
    known.set(key, name);
  }
}
