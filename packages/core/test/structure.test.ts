// The order in which a graph is computed, and when its values are needed no more.
import { describe, expect, it } from 'vitest';
import {
  add,
  clip,
  detach,
  exp,
  lastUses,
  matmul,
  mul,
  type StructureOptions,
  silu,
  structureOf,
  sum,
  type Tensor,
  tensor,
  transpose,
} from '../src/index.js';

const leaf = (): Tensor => tensor(new Float32Array(4), [2, 2]);

const opsOf = (roots: readonly Tensor[], options?: StructureOptions): string[] =>
  [...structureOf(roots, options).nodes.values()].map(({ expression }) => expression.op);

describe('structureOf', () => {
  it('puts inputs before their users, and first what the first input of a node needs, or the last', () => {
    const [x, w] = [leaf(), leaf()];
    const total = sum(matmul(exp(x), transpose(w, [1, 0])));
    const { nodes, leaves, roots } = structureOf([total]);
    expect(opsOf([total])).toEqual(['exp', 'transpose', 'matmul', 'sum']);
    expect(opsOf([total], { lastInputFirst: true })).toEqual(['transpose', 'exp', 'matmul', 'sum']);
    for (const [number, { inputs }] of nodes) for (const input of inputs) expect(input).toBeLessThan(number);
    expect([...leaves.values()]).toEqual([x, w]);
    expect([...leaves.keys(), ...nodes.keys()].sort()).toEqual([0, 1, 2, 3, 4, 5]);
    expect(roots).toEqual([5]);
  });

  it('takes the weights of a chain of products one by one', () => {
    let x = leaf();
    for (let i = 0; i < 3; i++) x = matmul(x, exp(leaf()));
    expect(opsOf([x])).toEqual(['exp', 'matmul', 'exp', 'matmul', 'exp', 'matmul']);
  });

  it('computes what is equal once, and keeps apart what differs in a NaN, an infinity or the sign of 0', () => {
    const x = leaf();
    expect(opsOf([add(exp(x), exp(x)), exp(x)])).toEqual(['exp', 'add']);
    expect(opsOf([mul(x, 0), mul(x, -0)]).filter((op) => op === 'mul')).toHaveLength(2);
    expect(opsOf([clip(x, -Infinity, Infinity), mul(x, Number.NaN)]).filter((op) => op === 'constant')).toHaveLength(3);
  });

  it('goes through composites unless they are fused, and past what only stops gradients', () => {
    const x = leaf();
    expect(opsOf([silu(detach(x))])).toEqual(['sigmoid', 'mul']);
    expect(opsOf([silu(detach(leaf()))], { fuses: (op) => op === 'silu' })).toEqual(['silu']);
    expect(structureOf([detach(x)])).toMatchObject({ roots: [0] });
  });

  it('has one key for graphs that differ in the elements of their leaves alone', () => {
    const keyOf = (x: Tensor, factor: number) => structureOf([mul(exp(x), factor)]).key;
    expect(keyOf(leaf(), 2)).toBe(keyOf(tensor([1, 2, 3, 4], [2, 2]), 2));
    expect(new Set([keyOf(leaf(), 2), keyOf(leaf(), 3), keyOf(tensor([1, 2]), 2)]).size).toBe(3);
  });
});

describe('lastUses', () => {
  it('frees each value after the last node that reads it, and no root', () => {
    const x = leaf();
    const y = exp(x);
    const z = mul(y, y);
    const structure = structureOf([add(z, y), z]);
    const opOf = (number: number) => structure.nodes.get(number)?.expression.op ?? 'leaf';
    const freed = [...lastUses(structure)].map(([number, dead]) => [opOf(number), dead.map(opOf)]);
    expect(Object.fromEntries(freed)).toEqual({ exp: ['leaf'], mul: [], add: ['exp'] });
  });
});
