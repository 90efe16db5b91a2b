// A run's store in a directory: one safetensors file per entry, the entry's JSON in its metadata.
import { readdir, rm, rmdir } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { LowbitError, type Store } from '@lowbit/core';
import { fileError, parseJsonObject } from './read-file.js';
import { requireJson } from './require-json.js';
import { openSafetensors, type SafetensorsFile } from './safetensors-file.js';
import { storedTensor, writeSafetensors } from './safetensors-write.js';
import { isFile } from './weights.js';

/** Name of the metadata field that holds an entry's JSON: safetensors metadata are strings. */
const METADATA = 'entry';

/** A store that can be emptied. */
export interface FileStore extends Store {
  /** Whether there is no file in the directory, except what a killed process was writing. */
  isEmpty(): Promise<boolean>;
  /** Whether some file is an entry that can be read. */
  holdsEntries(): Promise<boolean>;
  /** Deletes all entries, and the directory when nothing else is in it. Entries that were got can no longer be read. */
  clear(): Promise<void>;
}

/**
 * A store in `directory`, which is created when something is put. The key 'blocks/003' becomes `blocks/003.safetensors`. `put` is
 * atomic and on the disk when it resolves. Tensors of an entry that was got are lazy; once the key is put again or deleted, reading
 * them throws FILE_CHANGED or FILE_MISSING.
 *
 * As no crash leaves a partial file under a final name, one that cannot be read was damaged from outside. `get` then throws
 * STORE_CORRUPT instead of passing it off as absent: a run that silently computed for hours what it had already would hide a
 * failing disk.
 */
export function createFileStore(directory: string): FileStore {
  const pathOf = (key: string): string => {
    // Segments of plain characters that do not begin with a dot: no key leads out of the directory or to a temporary file.
    if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]*(\/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$/.test(key)) {
      throw new LowbitError(
        'STORE_KEY',
        `store ${directory}: '${key}' cannot be a key; use letters, digits, '_', '-', '.' and '/' between segments`,
      );
    }
    return `${join(directory, ...key.split('/'))}.safetensors`;
  };
  return {
    async get(key) {
      const path = pathOf(key);
      if (!(await isFile(path))) return undefined;
      const file = await openEntry(path, key);
      return {
        metadata: entryMetadata(file, key),
        tensors: Object.fromEntries([...file.entries.keys()].map((name) => [name, file.tensor(name)])),
      };
    },
    async put(key, { metadata, tensors }) {
      requireJson(metadata, `store ${directory}: ${key}: metadata`);
      const stored = Object.entries(tensors).map(([name, tensor]) => storedTensor(name, tensor));
      await writeSafetensors(pathOf(key), stored, { metadata: { [METADATA]: JSON.stringify(metadata) } });
    },
    async delete(key) {
      const path = pathOf(key);
      try {
        await rm(path, { force: true });
      } catch (cause) {
        throw fileError(cause, 'delete', path);
      }
    },
    isEmpty: async () => (await filesBelow(directory)).every((path) => UNFINISHED.test(path)),
    async holdsEntries() {
      for (const path of await filesBelow(directory)) if (await isEntry(path, false)) return true;
      return false;
    },
    async clear() {
      try {
        // What says which run it is lies on top and goes last: entries without it would be taken for those of another run.
        const deepestFirst = (await filesBelow(directory)).sort((a, b) => b.split(sep).length - a.split(sep).length);
        for (const path of deepestFirst) if (UNFINISHED.test(path) || (await isEntry(path, true))) await rm(path, { force: true });
        await removeEmpty(directory);
      } catch (cause) {
        throw fileError(cause, 'delete', directory);
      }
    },
  };
}

const ENTRY = /\.safetensors$/;

/** Whether a file is an entry of a store: a checkpoint that lies in the same directory has weights of the same ending. */
async function isEntry(path: string, ifDamaged: boolean): Promise<boolean> {
  if (!ENTRY.test(path)) return false;
  return openSafetensors(path).then(
    ({ metadata }) => metadata.has(METADATA),
    () => ifDamaged,
  );
}

/** What a killed process was writing. */
const UNFINISHED = /\.safetensors\.\d+-[0-9a-f]{8}\.tmp$/;

/** Paths of all files, none where there is no directory. */
async function filesBelow(directory: string): Promise<string[]> {
  try {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name));
  } catch (cause) {
    if (['ENOENT', 'ENOTDIR'].includes((cause as NodeJS.ErrnoException).code ?? '')) return [];
    throw fileError(cause, 'read', directory);
  }
}

/** Removes directories that hold no file, innermost first. */
async function removeEmpty(directory: string): Promise<void> {
  const entries = await readdir(directory, { withFileTypes: true }).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return undefined;
    throw cause;
  });
  if (!entries) return;
  for (const entry of entries) if (entry.isDirectory()) await removeEmpty(join(directory, entry.name));
  const left = await readdir(directory);
  if (left.length === 0) await rmdir(directory);
}

async function openEntry(path: string, key: string): Promise<SafetensorsFile> {
  try {
    return await openSafetensors(path);
  } catch (cause) {
    if (!(cause instanceof LowbitError) || !cause.code.startsWith('SAFETENSORS')) throw cause;
    throw corrupt(path, key, cause.message, cause);
  }
}

function entryMetadata(file: SafetensorsFile, key: string): Readonly<Record<string, unknown>> {
  const text = file.metadata.get(METADATA);
  if (text === undefined) throw corrupt(file.path, key, 'it has no entry metadata', undefined);
  try {
    return parseJsonObject(Buffer.from(text), file.path);
  } catch (cause) {
    throw corrupt(file.path, key, (cause as Error).message, cause);
  }
}

const corrupt = (path: string, key: string, why: string, cause: unknown): LowbitError =>
  new LowbitError(
    'STORE_CORRUPT',
    `${path}: the stored entry '${key}' is damaged (${why}); check the disk, delete the file, and the run computes it again`,
    { cause },
  );
