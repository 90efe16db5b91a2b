// A model that a finetune has made as entries of a store: one for each block, and a last one for what is around them.
import { type Block, Embedding, LowbitError, type Model, type Tensor, tensorsOf } from '@lowbit/core';
import { entryKey, type Run } from './run.js';
import { decodeTurn, storeTurn } from './stored-block.js';
import { decodeLinear, decodeNorm, encodeLinear, encodeNorm, type LinearRecord, type NormRecord, requireTensor } from './stored-parts.js';

const EMBEDDING = 'model.embed_tokens.weight';

interface ModelRecord {
  readonly norm: NormRecord;
  readonly head: LinearRecord;
  /** Tensors that are others of the given model, or of this entry, by their names: what a finetune leaves alone is not stored, what is tied stays tied. */
  readonly same: Readonly<Record<string, string>>;
}

function around(model: Model): Model {
  return model.with({ blocks: [] });
}

/** Stores what the finetune of a step has made of `given`; without a store it is given back as it is. */
export async function storeTuned(run: Run, step: number, tuned: Model, given: Model): Promise<Model> {
  const { storage } = run;
  if (!storage) return tuned;
  const blocks: Block[] = [];
  for (const block of tuned.blocks) blocks.push(await storeTurn(storage, entryKey(step, 'tuned', block.path), block));
  const tensors: Record<string, Tensor> = { [EMBEDDING]: tuned.embedding.weight };
  const records = { norm: encodeNorm(tuned.norm, 'model.norm', tensors), head: encodeLinear(tuned.head, 'lm_head', tensors) };
  const known = new Map([...tensorsOf(around(given))].map(([name, t]) => [t, name]));
  const same: Record<string, string> = {};
  const own: Record<string, Tensor> = {};
  for (const [name, t] of Object.entries(tensors)) {
    const elsewhere = known.get(t);
    if (elsewhere === undefined) own[name] = t;
    else same[name] = elsewhere;
    known.set(t, elsewhere ?? name);
  }
  const record: ModelRecord = { ...records, same };
  await storage.put(entryKey(step, 'tuned', 'model'), { metadata: { ...record }, tensors: own });
  await storage.sweep();
  return tuned.with({ blocks });
}

/** What an earlier run's finetune made of the same model, if it came to an end. */
export async function restoreTuned({ storage, emit }: Run, step: number, given: Model): Promise<Model | undefined> {
  if (!storage?.kinds) return undefined;
  const { kinds } = storage;
  const entry = await storage.get(entryKey(step, 'tuned', 'model'));
  if (!entry) return undefined;
  const blocks: Block[] = [];
  for (const block of given.blocks) {
    const stored = await storage.get(entryKey(step, 'tuned', block.path));
    if (!stored) throw new LowbitError('STORE_ENTRY', `the store has lost the tuned block ${block.path}; begin anew in another store`);
    blocks.push(decodeTurn(block, stored, kinds).block);
  }
  const { norm, head, same } = entry.metadata as unknown as ModelRecord;
  const tensors: Record<string, Tensor> = { ...entry.tensors };
  const known = { ...Object.fromEntries(tensorsOf(around(given))), ...entry.tensors };
  for (const [name, elsewhere] of Object.entries(same)) tensors[name] = requireTensor(known, elsewhere);
  emit({ type: 'log', step, path: 'model', record: { reusedFromStore: true } });
  return given.with({
    blocks,
    embedding: new Embedding(requireTensor(tensors, EMBEDDING)),
    norm: decodeNorm(norm, 'model.norm', tensors),
    head: decodeLinear(head, 'lm_head', tensors, kinds),
  });
}
