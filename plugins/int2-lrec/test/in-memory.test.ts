// What the corrected model and the dense one share is read once and held once.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, readFloats, tensorsOf } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { createToyModel } from '@lowbit/testkit';
import { expect, it } from 'vitest';
import { attachAdapters } from '../src/adapters/attach.js';
import { materializeBoth } from '../src/lrec/in-memory.js';
import { lrecOptions } from '../src/lrec/options.js';
import { rounding } from './rounding.js';

it.each([true, false])('reads tensors of both models once, with tied embeddings or not (%s)', async (tiedEmbeddings) => {
  const loads = new Map<string, number>();
  const given = createToyModel({ seed: 5, tiedEmbeddings, onLoad: (name) => loads.set(name, (loads.get(name) ?? 0) + 1) });
  const { model } = await quantize({ model: given, backend: createReferenceBackend(), recipe: [rounding({ bits: 2, groupSize: 16 })] });
  const options = lrecOptions.parse({ rank: 2 });
  const adapted = attachAdapters(model, () => options, createRng(1));
  loads.clear();
  const { student, dense } = await materializeBoth(adapted.model, given);
  expect(loads.size).toBe(tensorsOf(given).size);
  expect([...loads.values()].every((times) => times === 1)).toBe(true);

  const [ofStudent, ofDense] = [tensorsOf(student), tensorsOf(dense)];
  const shared = [...ofDense].filter(([name, t]) => ofStudent.get(name) === t).map(([name]) => name);
  expect(shared).toEqual(['model.embed_tokens.weight', 'model.norm.weight', ...(tiedEmbeddings ? [] : ['lm_head.weight'])]);
  expect([...ofStudent.keys()]).toEqual([...tensorsOf(adapted.model).keys()]);
  for (const [name, t] of tensorsOf(given)) expect(await readFloats(ofDense.get(name) as typeof t), name).toEqual(await readFloats(t));
});
