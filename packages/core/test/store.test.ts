// The store in memory.
import { expect, it } from 'vitest';
import { lazyTensor, memoryStore, read, tensor } from '../src/index.js';

it('memoryStore keeps, replaces and forgets whole entries', async () => {
  const store = memoryStore();
  expect(await store.get('a')).toBeUndefined();
  const entry = { metadata: { n: 1 }, tensors: { x: tensor([1]) } };
  await store.put('a', entry);
  expect(await store.get('a')).toEqual(entry);
  await store.put('a', { metadata: { n: 2 }, tensors: {} });
  expect(await store.get('a')).toEqual({ metadata: { n: 2 }, tensors: {} });
  await store.delete('a');
  await store.delete('a');
  expect(await store.get('a')).toBeUndefined();
});

it('memoryStore reads lazy tensors once, when they are put', async () => {
  const store = memoryStore();
  let loads = 0;
  const lazy = lazyTensor([1], 'float32', () => Float32Array.of(++loads));
  await store.put('a', { metadata: {}, tensors: { x: lazy } });
  for (const _ of [1, 2]) expect(await read((await store.get('a'))!.tensors['x'])).toEqual(Float32Array.of(1));
});
