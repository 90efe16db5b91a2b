// The store in memory.
import { expect, it } from 'vitest';
import { memoryStore, tensor } from '../src/index.js';

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
