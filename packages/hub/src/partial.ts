// Files that are being fetched: each has one writer, and what an interrupted one left is gone on with.
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { cacheError } from './errors.js';

/** What a file is to hold: its hash is its name. */
export interface Blob {
  /** sha256 of the bytes for large files, git's sha1 of a blob for others. */
  readonly hash: string;
  readonly size: number;
}

/** A file that grows at its end. */
export interface Partial {
  /** Bytes that are there, as far as this process knows. */
  readonly size: number;
  write(bytes: Uint8Array): Promise<void>;
  /** Begins again with nothing. */
  clear(): Promise<void>;
  /** Whether the file is the blob, read again from the disk; then it has its final name. */
  finish(): Promise<boolean>;
  /** Leaves what is there for another time. */
  leave(): Promise<void>;
  /** Leaves nothing. */
  remove(): Promise<void>;
}

/** The hash of what lies on the disk, whoever wrote it: git's is one of a file's length and its bytes. */
async function hashOf(path: string, { hash, size }: Blob): Promise<string> {
  const hasher = hash.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
  for await (const bytes of createReadStream(path, { highWaterMark: READ_BYTES })) hasher.update(bytes as Uint8Array);
  return hasher.digest('hex');
}

const READ_BYTES = 2 ** 20;

/** Opens the file that a blob is fetched into, with what was left of it. @throws DISK_FULL, HUB_CACHE */
export async function openPartial(blobs: string, blob: Blob): Promise<Partial> {
  const left = join(blobs, `${blob.hash}.${randomBytes(4).toString('hex')}.partial`);
  // The owner is in the name: others leave it alone while that process runs.
  const path = `${left}.${HOST}.${process.pid}`;
  const guarded = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (cause) {
      throw cacheError(cause, path);
    }
  };
  await guarded(() => mkdir(blobs, { recursive: true }));
  await takeOver(blobs, blob.hash, path);
  const handle: FileHandle = await guarded(() => open(path, 'a'));
  let { size } = await handle.stat();
  return {
    get size() {
      return size;
    },
    write: (bytes) =>
      guarded(async () => {
        for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done)).bytesWritten;
        size += bytes.length;
      }),
    clear: () =>
      guarded(async () => {
        await handle.truncate(0);
        size = 0;
      }),
    finish: () =>
      guarded(async () => {
        await handle.sync();
        // The file itself: another process may have written to it, or the disk have lost some of it.
        if ((await handle.stat()).size !== blob.size || (await hashOf(path, blob)) !== blob.hash) return false;
        await handle.close();
        await rename(path, join(blobs, blob.hash));
        return true;
      }),
    async leave() {
      await handle.close();
      await rename(path, left).catch(() => undefined);
    },
    async remove() {
      await handle.close();
      await rm(path, { force: true });
    },
  };
}

/** This machine or container in the names of files: caches lie on file systems that several share. */
const HOST = hostname()
  .replace(/[^\w-]/g, '_')
  .slice(0, 64);

/** Renames a file that no running process writes to, if there is one, to `path`. */
async function takeOver(blobs: string, hash: string, path: string): Promise<void> {
  for (const name of await readdir(blobs)) {
    const owner = name.startsWith(`${hash}.`) ? /^[0-9a-f]{8}\.partial(?:\.([\w-]+)\.(\d+))?$/.exec(name.slice(hash.length + 1)) : null;
    if (!owner || (owner[1] !== undefined && (await isWritten(join(blobs, name), owner[1], Number(owner[2]))))) continue;
    // Of two that want it, one gets it.
    const isMine = await rename(join(blobs, name), path).then(
      () => true,
      () => false,
    );
    if (isMine) return;
  }
}

/** Of another machine's processes nothing is known: one that has written nothing for so long is taken to be gone. */
const SILENCE_MS = 24 * 3600 * 1000;

/** Whether its owner runs, and is not a later process that was given the same number, as happens in containers. */
async function isWritten(path: string, host: string, pid: number): Promise<boolean> {
  if (host === HOST && pid !== process.pid) return isRunning(pid);
  const changed = await stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  );
  return changed >= Date.now() - (host === HOST ? process.uptime() * 1000 : SILENCE_MS);
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === 'EPERM'; // it exists and belongs to someone else
  }
}
