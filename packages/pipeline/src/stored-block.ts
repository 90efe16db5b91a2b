// A finished block as an entry of a store: every tensor by name, and as JSON what the block is besides.
import {
  type Block,
  type KeyValueQuantization,
  type Linear,
  type LinearKinds,
  type LinearState,
  LowbitError,
  Norm,
  restoreLinear,
  type Store,
  type StoreEntry,
  type Tensor,
} from '@lowbit/core';

/** A LinearState without its tensors: those lie in the entry under `<linear path>.<tensor name>`, a part's under `<linear path>.<role>.<name>`. */
interface LinearRecord extends Omit<LinearState, 'tensors' | 'parts'> {
  readonly tensors: readonly string[];
  readonly parts?: Readonly<Record<string, LinearRecord>>;
}

interface NormRecord {
  readonly kind: Norm['kind'];
  readonly size: number;
  readonly epsilon: number;
  readonly tensors: readonly string[];
}

interface BlockRecord {
  readonly linears: Readonly<Record<string, LinearRecord>>;
  readonly norms: Readonly<Record<string, NormRecord>>;
  readonly keyValues?: KeyValueQuantization;
}

/** The block as a store entry. */
function encodeBlock(block: Block): StoreEntry {
  const tensors: Record<string, Tensor> = {};
  const record: BlockRecord = {
    linears: mapValues(block.linears, (linear, name) => encodeLinear(linear.state(), name, tensors)),
    norms: mapValues(block.norms, ({ kind, size, epsilon, weight, bias }, name) => {
      const held = { ...(weight && { weight }), ...(bias && { bias }) };
      for (const [field, t] of Object.entries(held)) tensors[`${name}.${field}`] = t;
      return { kind, size, epsilon, tensors: Object.keys(held) };
    }),
    ...(block.keyValues && { keyValues: block.keyValues }),
  };
  return { metadata: { ...record }, tensors };
}

function encodeLinear({ tensors: held, parts, ...rest }: LinearState, path: string, tensors: Record<string, Tensor>): LinearRecord {
  for (const [name, t] of Object.entries(held)) tensors[`${path}.${name}`] = t;
  const encodedParts = parts && mapValues(parts, (part, role) => encodeLinear(part, `${path}.${role}`, tensors));
  return { ...rest, tensors: Object.keys(held), ...(encodedParts && { parts: encodedParts }) };
}

/**
 * Rebuilds a stored block on a template of the same path, whose architecture it takes.
 * @throws LINEAR_KIND when `kinds` does not know one of its Linears; STORE_ENTRY when a tensor is missing.
 */
export function decodeBlock(template: Block, entry: StoreEntry, kinds: LinearKinds): Block {
  const { linears, norms, keyValues } = entry.metadata as unknown as BlockRecord;
  return template.with({
    linears: mapValues(linears, (record, name) => restoreLinear(decodeLinear(record, name, entry), kinds)),
    norms: mapValues(norms, ({ kind, size, epsilon, tensors }, name) => {
      const { weight, bias } = tensorsAt(entry, name, tensors);
      return new Norm(kind, size, epsilon, weight, bias);
    }),
    keyValues,
  });
}

function decodeLinear({ tensors, parts, ...rest }: LinearRecord, path: string, entry: StoreEntry): LinearState {
  return {
    ...rest,
    tensors: tensorsAt(entry, path, tensors),
    ...(parts && { parts: mapValues(parts, (part, role) => decodeLinear(part, `${path}.${role}`, entry)) }),
  };
}

function tensorsAt(entry: StoreEntry, path: string, names: readonly string[]): Record<string, Tensor> {
  return Object.fromEntries(names.map((name) => [name, requireTensor(entry, `${path}.${name}`)]));
}

function requireTensor(entry: StoreEntry, name: string): Tensor {
  const t = entry.tensors[name];
  if (!t)
    throw new LowbitError('STORE_ENTRY', `the store returned an entry without '${name}'; delete the entry or the store and run again`);
  return t;
}

/**
 * Writes the block and gives it back reading from the store: lazily from a file, from memory as before. Its Linears stay the
 * objects they are, so no restorer is needed.
 */
export async function storeBlock(store: Store, key: string, block: Block): Promise<Block> {
  const entry = encodeBlock(block);
  await store.put(key, entry);
  const stored = await store.get(key);
  if (!stored) throw new LowbitError('STORE_ENTRY', `the store lost '${key}' right after it was written; check the disk it lies on`);
  const readBack = new Map(Object.entries(entry.tensors).map(([name, t]) => [t, requireTensor(stored, name)]));
  return block.map((t) => readBack.get(t) ?? t);
}

function mapValues<T, U>(record: Readonly<Record<string, T>>, f: (value: T, name: string) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, f(value, name)]));
}

/** What a Linear is besides its tensors, for fingerprints. */
export function describeLinear(linear: Linear): LinearRecord {
  return encodeLinear(linear.state(), '', {});
}
