// What files weigh and what they hash to: for scores of bytes on disk and for proofs of equal output.
import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError, readRange, withFile } from './read-file.js';

/** Bytes hashed at a time. */
const CHUNK_BYTES = 4 * 2 ** 20;

/** SHA-256 of a file as lower-case hexadecimal, read piece by piece. @throws FILE_MISSING and the like */
export function fileSha256(path: string): Promise<string> {
  return withFile(path, async (handle, { size }) => {
    const hash = createHash('sha256');
    for (let at = 0; at < size; at += CHUNK_BYTES) hash.update(await readRange(handle, path, at, Math.min(CHUNK_BYTES, size - at)));
    return hash.digest('hex');
  });
}

/** Bytes of all regular files in a directory and below it. Links are not followed. @throws FILE_MISSING and the like */
export async function directoryBytes(directory: string): Promise<number> {
  try {
    let bytes = 0;
    for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
    }
    return bytes;
  } catch (cause) {
    throw fileError(cause, 'read', directory);
  }
}
