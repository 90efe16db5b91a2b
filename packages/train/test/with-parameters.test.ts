// Trees of tensors with some replaced by name.
import { type Tensor, tensor } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { withParameters } from '../src/index.js';

describe('withParameters', () => {
  it('replaces by name and leaves the rest', () => {
    const [a, b, c] = [1, 2, 3].map((x) => tensor(x));
    const tree = (parts: readonly Tensor[]) => ({
      parts,
      map: (change: (t: Tensor, name: string) => Tensor) => tree(parts.map((t, i) => change(t, `part${i}`))),
    });
    expect(withParameters(tree([a, b]), new Map([['part1', c]])).parts).toEqual([a, c]);
  });
});
