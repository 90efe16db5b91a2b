// A block whose turn is over as an entry of a store, with the activations that a resumed run goes on with.
import type { Block, KeyValueQuantization, LinearKinds, RunEvent, StoreEntry, Tensor } from '@lowbit/core';
import type { DenseState } from './dense-stream.js';
import type { RunStorage } from './run-storage.js';
import {
  decodeLinear,
  decodeNorm,
  encodeLinear,
  encodeNorm,
  type LinearRecord,
  mapValues,
  type NormRecord,
  requireTensor,
} from './stored-parts.js';

interface BlockRecord {
  readonly linears: Readonly<Record<string, LinearRecord>>;
  readonly norms: Readonly<Record<string, NormRecord>>;
  readonly keyValues?: KeyValueQuantization;
}

/** The activations that a resumed run goes on with after a block. */
export interface StreamsAfter {
  /** Entry of the stream that enters the next block; left out when nothing reads it. */
  readonly stream?: string;
  /** The stream of the dense model, where somebody has asked for it. */
  readonly dense?: DenseState;
}

/** What an entry says of a block's turn: the block, unless the step left it as it was, and what follows from it. */
interface TurnRecord {
  readonly block?: BlockRecord;
  readonly after: StreamsAfter;
  /** What was told of it. */
  readonly events: readonly RunEvent[];
}

/** What an entry says of a turn besides the block. */
export type Turn = Omit<TurnRecord, 'block'>;

function encodeBlock(block: Block): { record: BlockRecord; tensors: Record<string, Tensor> } {
  const tensors: Record<string, Tensor> = {};
  const record: BlockRecord = {
    linears: mapValues(block.linears, (linear, name) => encodeLinear(linear, name, tensors)),
    norms: mapValues(block.norms, (norm, name) => encodeNorm(norm, name, tensors)),
    ...(block.keyValues && { keyValues: block.keyValues }),
  };
  return { record, tensors };
}

/**
 * What an earlier run left of a block's turn. The block takes the architecture of the template, which has its path; it is the template
 * where the step left it as it was.
 * @throws LINEAR_KIND when `kinds` does not know one of its Linears; STORE_ENTRY when a tensor is missing.
 */
export function decodeTurn(template: Block, entry: StoreEntry, kinds: LinearKinds): Turn & { block: Block } {
  const { block: record, ...turn } = entry.metadata as unknown as TurnRecord;
  if (!record) return { ...turn, block: template };
  const { linears, norms, keyValues } = record;
  const block = template.with({
    linears: mapValues(linears, (linear, name) => decodeLinear(linear, name, entry.tensors, kinds)),
    norms: mapValues(norms, (norm, name) => decodeNorm(norm, name, entry.tensors)),
    keyValues,
  });
  return { ...turn, block };
}

/**
 * Writes that the turn of a block is over, and gives the block back reading from the store: lazily from a file, from memory as before. Its
 * Linears stay the objects they are, so no restorer is needed. The activations it names are there already: this entry is what makes
 * them count.
 */
export async function storeTurn(storage: RunStorage, key: string, block: Block, turn: Turn): Promise<Block> {
  const { record, tensors } = encodeBlock(block);
  const stored = await storage.keep(key, { metadata: metadataOf({ ...turn, block: record }), tensors });
  const readBack = new Map(Object.entries(tensors).map(([name, t]) => [t, requireTensor(stored.tensors, name)]));
  return block.map((t) => readBack.get(t) ?? t);
}

/** The same for a block that the step left as it was. */
export async function storePassed(storage: RunStorage, key: string, turn: Turn): Promise<void> {
  await storage.put(key, { metadata: metadataOf(turn), tensors: {} });
}

function metadataOf({ events, ...rest }: TurnRecord): StoreEntry['metadata'] {
  return { ...rest, events: plainEvents(events) };
}

/** Events as JSON: a method may log what that has no word for. */
export function plainEvents(events: readonly RunEvent[]): readonly RunEvent[] {
  return JSON.parse(JSON.stringify(events)) as readonly RunEvent[];
}
