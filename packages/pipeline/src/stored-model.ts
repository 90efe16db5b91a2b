// A model that a finetune has made as entries of a store: one for each block, and a last one for what is around them.
import type { Block, Model, RunEvent, Tensor } from '@lowbit/core';
import { entryKey, type Run } from './run.js';
import { decodeTurn, plainEvents, storeTurn } from './stored-block.js';
import { decodeLinear, decodeNorm, encodeLinear, encodeNorm, type LinearRecord, type NormRecord, requireTensor } from './stored-parts.js';

interface ModelRecord {
  readonly norm: NormRecord;
  readonly head: LinearRecord;
  /**
   * Tensors that are others of this entry, or of the given model ('given.head.weight'), by their names: what is tied stays tied, and what
   * the finetune leaves alone is not stored.
   */
  readonly same: Readonly<Record<string, string>>;
  /** What was told of the stage. */
  readonly events: readonly RunEvent[];
}

/** What is around the blocks as records, and its tensors by name. */
function encodeAround({ embedding, norm, head }: Model): Pick<ModelRecord, 'norm' | 'head'> & { tensors: Record<string, Tensor> } {
  const tensors: Record<string, Tensor> = {};
  embedding.map((t, name) => (tensors[`embedding.${name}`] = t));
  return { norm: encodeNorm(norm, 'norm', tensors), head: encodeLinear(head, 'head', tensors), tensors };
}

/** Stores what the finetune of a step has made of `given`; without a store it is given back as it is. */
export async function storeTuned(run: Run, step: number, tuned: Model, given: Model): Promise<Model> {
  const { storage } = run;
  if (!storage) return tuned;
  const blocks: Block[] = [];
  for (const block of tuned.blocks)
    blocks.push(await storeTurn(storage, entryKey(step, 'tuned', block.path), block, { after: {}, events: [] }));
  const { norm, head, tensors } = encodeAround(tuned);
  const known = new Map(Object.entries(encodeAround(given).tensors).map(([name, t]) => [t, `given.${name}`]));
  const same: Record<string, string> = {};
  const own: Record<string, Tensor> = {};
  for (const [name, t] of Object.entries(tensors)) {
    const elsewhere = known.get(t);
    if (elsewhere === undefined) own[name] = t;
    else same[name] = elsewhere;
    known.set(t, elsewhere ?? name);
  }
  const record: ModelRecord = { norm, head, same, events: plainEvents(run.told()) };
  await storage.put(entryKey(step, 'tuned', 'model'), { metadata: { ...record }, tensors: own });
  await storage.sweep();
  return tuned.with({ blocks });
}

/** What an earlier run's finetune made of the same model, if it came to an end and all of it is there. */
export async function restoreTuned({ storage, emit }: Run, step: number, given: Model): Promise<Model | undefined> {
  if (!storage?.kinds) return undefined;
  const { kinds } = storage;
  const entry = await storage.get(entryKey(step, 'tuned', 'model'));
  if (!entry) return undefined;
  const blocks: Block[] = [];
  for (const block of given.blocks) {
    const stored = await storage.get(entryKey(step, 'tuned', block.path));
    if (!stored) return undefined;
    blocks.push(decodeTurn(block, stored, kinds).block);
  }
  const { norm, head, same, events } = entry.metadata as unknown as ModelRecord;
  const ofGiven = Object.entries(encodeAround(given).tensors).map(([name, t]): [string, Tensor] => [`given.${name}`, t]);
  const known = { ...Object.fromEntries(ofGiven), ...entry.tensors };
  const tensors: Record<string, Tensor> = { ...entry.tensors };
  for (const [name, elsewhere] of Object.entries(same)) tensors[name] = requireTensor(known, elsewhere);
  emit({ type: 'log', step, path: 'model', record: { reusedFromStore: true } });
  for (const event of events) emit(event);
  return given.with({
    blocks,
    embedding: given.embedding.map((_, name) => requireTensor(tensors, `embedding.${name}`)),
    norm: decodeNorm(norm, 'norm', tensors),
    head: decodeLinear(head, 'head', tensors, kinds),
  });
}
