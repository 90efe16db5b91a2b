// What the pool of result buffers keeps, and for how long.
import { describe, expect, it } from 'vitest';
import { BufferPool } from '../src/buffer-pool.js';

const LIMIT = 64;
const floats = (bytes: number): Float32Array => new Float32Array(bytes / 4);

describe('a pool of buffers', () => {
  it('hands out what was given, once', () => {
    const pool = new BufferPool(LIMIT);
    const buffer = floats(16);
    pool.give('float32', buffer);
    pool.give('float32', buffer);
    expect(pool.take('float32', 4)).toBe(buffer);
    expect(pool.take('float32', 4)).not.toBe(buffer);
    expect(pool.take('int32', 4)).toBeInstanceOf(Int32Array);
  });

  it('takes no views', () => {
    const pool = new BufferPool(LIMIT);
    const view = floats(32).subarray(0, 4);
    pool.give('float32', view);
    expect(pool.take('float32', 4)).not.toBe(view);
  });

  it('lets go of what was not given for longest', () => {
    const pool = new BufferPool(LIMIT);
    const [first, second, third] = [16, 32, 24].map(floats);
    for (const buffer of [first, second, third]) pool.give('float32', buffer);
    expect(pool.take('float32', first.length)).not.toBe(first);
    expect(pool.take('float32', second.length)).toBe(second);
    expect(pool.take('float32', third.length)).toBe(third);
  });

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
