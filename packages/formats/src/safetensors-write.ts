// Writing safetensors files: tensor by tensor, atomically, in shards when they would grow too large.
import { join } from 'node:path';
import { LowbitError, read, type Shape, type Tensor } from '@lowbit/core';
import { type ByteSink, writeFileAtomically } from './atomic-write.js';
import { located } from './located-error.js';
import { buildHeader, type SafetensorsEntry } from './safetensors-header.js';
import { codecs, naturalDType, type StoredDType, storedBytes } from './stored-dtype.js';

/** Largest shard unless told otherwise: what Hugging Face used for years, and small enough for file systems and uploads. */
export const DEFAULT_SHARD_BYTES = 5_000_000_000;

/** File names of a checkpoint's weights. */
export const WEIGHTS_FILE = 'model.safetensors';
export const INDEX_FILE = 'model.safetensors.index.json';

/** A tensor as it goes to disk. `bytes` is called once, when its turn has come, so only one tensor is in memory. */
export interface StoredTensor {
  readonly name: string;
  readonly shape: Shape;
  readonly dtype: StoredDType;
  bytes(): Promise<Uint8Array>;
}

export interface WriteOptions {
  /** Becomes `__metadata__`. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** Called after each tensor. */
  readonly progress?: ((done: number, total: number) => void) | undefined;
}

/** A leaf to be stored in a type that holds it; float32 given 'F16' or 'BF16' is rounded half to even. @throws DTYPE for another kind of type. */
export function storedTensor(name: string, tensor: Tensor, dtype: StoredDType = naturalDType[tensor.dtype]): StoredTensor {
  if (codecs[dtype].dtype !== tensor.dtype) throw new LowbitError('DTYPE', `${name}: ${tensor.dtype} cannot be stored as ${dtype}`);
  return { name, shape: tensor.shape, dtype, bytes: () => located(name, async () => codecs[dtype].encode(await read(tensor))) };
}

const byteLength = ({ shape, dtype }: StoredTensor): number => shape.reduce((product, n) => product * n, storedBytes.get(dtype) as number);

/** UTF-16 code unit order: the same on every machine, unlike a locale's. */
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/**
 * Writes one safetensors file atomically. Wide element types come first, then names in order, so that every tensor is aligned
 * and equal content gives equal bytes.
 * @throws TENSOR_NAME for a duplicate or reserved name; what `bytes` throws; DISK_FULL and the like. No file is left then.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly StoredTensor[],
  { metadata = {}, progress }: WriteOptions = {},
): Promise<void> {
  checkNames(path, tensors);
  const width = (t: StoredTensor) => storedBytes.get(t.dtype) as number;
  const inOrder = [...tensors].sort((a, b) => width(b) - width(a) || compare(a.name, b.name));
  const entries = new Map<string, SafetensorsEntry>();
  let end = 0;
  for (const t of inOrder) {
    const start = end;
    end += byteLength(t);
    entries.set(t.name, { shape: t.shape, dtype: t.dtype, start, end });
  }
  const pairs = Object.entries(metadata).sort(([a], [b]) => compare(a, b));
  await writeFileAtomically(path, async (sink) => {
    await sink(buildHeader({ metadata: new Map(pairs), entries }));
    for (const [done, t] of inOrder.entries()) {
      await writeTensor(sink, t, path);
      progress?.(done + 1, inOrder.length);
    }
  });
}

async function writeTensor(sink: ByteSink, t: StoredTensor, path: string): Promise<void> {
  const bytes = await t.bytes();
  if (bytes.length !== byteLength(t)) {
    throw new LowbitError('TENSOR_LOAD', `${path}: tensor '${t.name}' gave ${bytes.length} bytes where its shape takes ${byteLength(t)}`);
  }
  await sink(bytes);
}

function checkNames(path: string, tensors: readonly StoredTensor[]): void {
  const seen = new Set(['__metadata__']);
  for (const { name } of tensors) {
    if (seen.has(name)) {
      throw new LowbitError(
        'TENSOR_NAME',
        `${path}: the name '${name}' ${name === '__metadata__' ? 'is reserved' : 'occurs twice'}; rename the tensor`,
      );
    }
    seen.add(name);
  }
}

export interface ShardOptions extends WriteOptions {
  /** Bytes of tensors in one file; a single larger tensor gets a file of its own. */
  readonly maxShardBytes?: number | undefined;
}

/**
 * Writes `model.safetensors`, or `model-0000i-of-0000n.safetensors` and their index, into a directory. Names go to shards in
 * order. The index is written last: without it the shards are no checkpoint.
 * @returns the files written, the one that readers go by last.
 */
export async function writeShards(
  directory: string,
  tensors: readonly StoredTensor[],
  { maxShardBytes = DEFAULT_SHARD_BYTES, metadata = { format: 'pt' }, progress }: ShardOptions = {},
): Promise<readonly string[]> {
  if (!(maxShardBytes > 0)) throw new LowbitError('SHARD_SIZE', `maxShardBytes is ${maxShardBytes}; give a positive number of bytes`);
  checkNames(directory, tensors);
  const shards = planShards(
    [...tensors].sort((a, b) => compare(a.name, b.name)),
    maxShardBytes,
  );
  const files = shards.map((_, i) =>
    shards.length === 1 ? WEIGHTS_FILE : `model-${padded(i + 1)}-of-${padded(shards.length)}.safetensors`,
  );
  let written = 0;
  for (const [i, shard] of shards.entries()) {
    await writeSafetensors(join(directory, files[i]), shard, { metadata, progress: () => progress?.(++written, tensors.length) });
  }
  if (shards.length === 1) return files;
  const index = {
    metadata: { total_size: tensors.reduce((sum, t) => sum + byteLength(t), 0) },
    weight_map: Object.fromEntries(shards.flatMap((shard, i) => shard.map(({ name }) => [name, files[i]]))),
  };
  await writeFileAtomically(join(directory, INDEX_FILE), (sink) => sink(Buffer.from(`${JSON.stringify(index, null, 2)}\n`)));
  return [...files, INDEX_FILE];
}

function planShards(tensors: readonly StoredTensor[], maxShardBytes: number): StoredTensor[][] {
  const shards: StoredTensor[][] = [[]];
  let bytes = 0;
  for (const t of tensors) {
    const last = shards[shards.length - 1];
    if (last.length > 0 && bytes + byteLength(t) > maxShardBytes) {
      shards.push([t]);
      bytes = byteLength(t);
    } else {
      last.push(t);
      bytes += byteLength(t);
    }
  }
  return shards;
}

const padded = (n: number): string => String(n).padStart(5, '0');
