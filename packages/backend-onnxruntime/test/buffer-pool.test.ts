// Buffers that are larger than all that the pool of results may hold.
import { describe, expect, it } from 'vitest';
import { BufferPool } from '../src/buffer-pool.js';

const LIMIT = 64;
const floats = (bytes: number): Float32Array => new Float32Array(bytes / 4);

describe('a pool of buffers', () => {
  it('keeps one that is larger than all it may hold until something else is given', () => {
    const pool = new BufferPool(LIMIT);
    const [large, other, small] = [128, 128, 16].map(floats);
    pool.give('float32', large);
    expect(pool.take('float32', large.length)).toBe(large);
    pool.give('float32', large);
    pool.give('float32', other);
    pool.give('float32', small);
    expect(pool.take('float32', small.length)).toBe(small);
    expect([large, other]).not.toContain(pool.take('float32', large.length));
  });

  it('holds one of two large ones of a size', () => {
    const pool = new BufferPool(LIMIT);
    const [large, other] = [128, 128].map(floats);
    pool.give('float32', large);
    pool.give('float32', other);
    const kept = [pool.take('float32', large.length), pool.take('float32', large.length)];
    expect(kept.filter((buffer) => buffer === large || buffer === other)).toHaveLength(1);
  });
});
