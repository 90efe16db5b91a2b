// Files that are being fetched: each has one writer, and what an interrupted one left is gone on with.
import { createHash, type Hash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { cacheError } from './errors.js';

/** What a file is to hold: its hash is its name. */
export interface Blob {
  /** sha256 of the bytes for large files, git's sha1 of a blob for others. */
  readonly hash: string;
  readonly size: number;
}

/** A file that grows at its end. */
export interface Partial {
  /** Bytes that are there. */
  readonly size: number;
  write(bytes: Uint8Array): Promise<void>;
  /** Begins again with nothing. */
  clear(): Promise<void>;
  /** Whether what is there is the blob; then it has its final name. */
  finish(): Promise<boolean>;
  /** Leaves what is there for another time. */
  leave(): Promise<void>;
  /** Leaves nothing. */
  remove(): Promise<void>;
}

/** Git's hash of a file is one of its length and its bytes. */
function hasher({ hash, size }: Blob): Hash {
  return hash.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

/** Opens the file that a blob is fetched into, with what was left of it. @throws DISK_FULL, HUB_CACHE */
export async function openPartial(blobs: string, blob: Blob): Promise<Partial> {
  const left = join(blobs, `${blob.hash}.${randomBytes(4).toString('hex')}.partial`);
  // The owner is in the name: others leave it alone while that process runs.
  const path = `${left}.${process.pid}`;
  const guarded = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (cause) {
      throw cacheError(cause, path);
    }
  };
  await guarded(() => mkdir(blobs, { recursive: true }));
  const isTaken = await takeOver(blobs, blob.hash, path);
  let hash = hasher(blob);
  let size = 0;
  if (isTaken) {
    await guarded(() =>
      pipeline(createReadStream(path), async (chunks: AsyncIterable<Uint8Array>) => {
        for await (const bytes of chunks) {
          hash.update(bytes);
          size += bytes.length;
        }
      }),
    );
  }
  const handle: FileHandle = await guarded(() => open(path, 'a'));
  return {
    get size() {
      return size;
    },
    write: (bytes) =>
      guarded(async () => {
        for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done)).bytesWritten;
        hash.update(bytes);
        size += bytes.length;
      }),
    clear: () =>
      guarded(async () => {
        await handle.truncate(0);
        hash = hasher(blob);
        size = 0;
      }),
    finish: () =>
      guarded(async () => {
        if (size !== blob.size || hash.copy().digest('hex') !== blob.hash) return false;
        await handle.sync();
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

/** Whether a file that no running process writes to has been renamed to `path`. */
async function takeOver(blobs: string, hash: string, path: string): Promise<boolean> {
  for (const name of await readdir(blobs)) {
    const owner = name.startsWith(`${hash}.`) ? /^[0-9a-f]{8}\.partial(?:\.(\d+))?$/.exec(name.slice(hash.length + 1)) : null;
    if (!owner || (owner[1] !== undefined && (await isWritten(join(blobs, name), Number(owner[1]))))) continue;
    // Of two that want it, one gets it.
    const isMine = await rename(join(blobs, name), path).then(
      () => true,
      () => false,
    );
    if (isMine) return true;
  }
  return false;
}

/** Whether its owner runs, and is not a later process that was given the same number, as happens in containers. */
async function isWritten(path: string, pid: number): Promise<boolean> {
  if (pid !== process.pid) return isRunning(pid);
  const changed = await stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  );
  return changed >= Date.now() - process.uptime() * 1000;
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === 'EPERM'; // it exists and belongs to someone else
  }
}
