// Reading files: byte ranges, small whole files, JSON; and file system errors turned into ones that say what to do.
import { type FileHandle, open } from 'node:fs/promises';
import { LowbitError } from '@lowbit/core';

/** One read call takes at most 2^31 − 1 bytes; larger ranges are read in pieces of this size. */
const READ_BYTES = 2 ** 30;

/** Largest JSON or side file that is read whole. The largest tokenizer.json in use (Gemma's) has 33 MB. */
export const SMALL_FILE_BYTES = 128 * 2 ** 20;

const reasons: Readonly<Record<string, readonly [code: string, what: string]>> = {
  ENOENT: ['FILE_MISSING', 'no such file or directory; check the path'],
  ENOTDIR: ['FILE_MISSING', 'a part of the path is a file, not a directory; check the path'],
  EISDIR: ['FILE_KIND', 'is a directory where a file was expected; check the path'],
  EACCES: ['FILE_PERMISSION', 'permission denied; check the owner and mode of the path'],
  EPERM: ['FILE_PERMISSION', 'operation not permitted; check the owner and mode of the path'],
  EROFS: ['FILE_PERMISSION', 'the file system is read-only; choose another place'],
  ENOSPC: ['DISK_FULL', 'no space is left on the disk; free some, or choose another place'],
  EDQUOT: ['DISK_FULL', 'the disk quota is used up; free some, or choose another place'],
  EFBIG: ['DISK_FULL', 'the file is larger than this file system or process may write; use smaller shards'],
  EMFILE: ['FILE_IO', 'too many files are open; raise the limit (ulimit -n)'],
};

/** A file system error as a LowbitError: `action` says what was being done ('read', 'write'). Other errors pass unchanged. */
export function fileError(cause: unknown, action: string, path: string): unknown {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  if (cause instanceof LowbitError || typeof code !== 'string' || !/^E[A-Z0-9]+$/.test(code)) return cause;
  const [name, what] = reasons[code] ?? ['FILE_IO', `${(cause as Error).message}; see the cause`];
  return new LowbitError(name, `${path}: could not ${action}: ${what}`, { cause });
}

/** What identifies the content of a file between two reads. */
export interface FileIdentity {
  readonly size: number;
  readonly modified: number;
  readonly inode: number;
}

async function identityOf(handle: FileHandle): Promise<FileIdentity> {
  const { size, mtimeMs, ino } = await handle.stat();
  return { size, modified: mtimeMs, inode: ino };
}

/** Opens a file for reading, hands it to `use`, closes it. File system errors become LowbitErrors. */
export async function withFile<T>(path: string, use: (handle: FileHandle, identity: FileIdentity) => Promise<T>): Promise<T> {
  try {
    const handle = await open(path, 'r');
    try {
      const stat = await handle.stat();
      if (!stat.isFile()) throw new LowbitError('FILE_KIND', `${path}: is not a regular file; check the path`);
      return await use(handle, await identityOf(handle));
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw fileError(cause, 'read', path);
  }
}

/**
 * Bytes [start, start + length) of an open file. The caller has compared the range with the file's size, so that a lie in a
 * header cannot ask for a huge allocation.
 * @throws FILE_TRUNCATED when the file ends before.
 */
export async function readRange(handle: FileHandle, path: string, start: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(length - done, READ_BYTES), start + done);
    if (bytesRead === 0)
      throw new LowbitError('FILE_TRUNCATED', `${path}: ends at byte ${start + done} of the ${start + length} expected; fetch it again`);
    done += bytesRead;
  }
  return bytes;
}

/**
 * Bytes [start, start + length) of a file that was looked at before: lazy tensors read through this.
 * @throws FILE_CHANGED when it is not the same file any more.
 */
export function readUnchanged(path: string, identity: FileIdentity, start: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  return withFile(path, (handle, now) => {
    if (now.size !== identity.size || now.modified !== identity.modified || now.inode !== identity.inode) {
      throw new LowbitError('FILE_CHANGED', `${path}: was changed after it had been opened; open it again`);
    }
    return readRange(handle, path, start, length);
  });
}

/** A whole small file. @throws FILE_SIZE when it is larger than SMALL_FILE_BYTES. */
export function readSmallFile(path: string): Promise<Uint8Array<ArrayBuffer>> {
  return withFile(path, (handle, { size }) => {
    if (size > SMALL_FILE_BYTES)
      throw new LowbitError('FILE_SIZE', `${path}: has ${size} bytes, more than the ${SMALL_FILE_BYTES} a file of its kind may have`);
    return readRange(handle, path, 0, size);
  });
}

/** UTF-8 text, strictly: `undefined` for bytes that are not UTF-8. A byte order mark is kept, so JSON refuses it. */
export function decodeText(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** A file that holds one JSON object. @throws JSON_FILE saying what is wrong with it. */
export async function readJsonObject(path: string): Promise<Record<string, unknown>> {
  return parseJsonObject(await readSmallFile(path), path);
}

/** The bytes of a file that holds one JSON object, parsed. @throws JSON_FILE */
export function parseJsonObject(bytes: Uint8Array, path: string): Record<string, unknown> {
  const text = decodeText(bytes);
  if (text === undefined) throw new LowbitError('JSON_FILE', `${path}: is not UTF-8 text; fetch it again`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new LowbitError('JSON_FILE', `${path}: is not JSON: ${(cause as Error).message}; repair it or fetch it again`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new LowbitError(
      'JSON_FILE',
      `${path}: must hold a JSON object, holds ${Array.isArray(value) ? 'an array' : typeof value}; fetch it again`,
    );
  }
  return value as Record<string, unknown>;
}
