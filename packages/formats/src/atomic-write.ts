// Files that appear under their final name whole or not at all: written under another name, synced, renamed.
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileError } from './read-file.js';

/** One write call takes at most 2^31 − 1 bytes. */
const WRITE_BYTES = 2 ** 30;

/** Appends bytes to the file being written. */
export type ByteSink = (bytes: Uint8Array) => Promise<void>;

/**
 * Writes a file under a temporary name in the same directory (created if need be), syncs it and renames it. When `write`
 * throws, or the disk is full, the temporary file is removed and whatever had the final name is untouched.
 * @throws DISK_FULL, FILE_PERMISSION, FILE_MISSING, FILE_IO naming the path.
 */
export async function writeFileAtomically(path: string, write: (sink: ByteSink) => Promise<void>): Promise<void> {
  await withTemporary(dirname(path), basename(path), path, async (temporary) => {
    const handle = await open(temporary, 'wx');
    try {
      await write((bytes) => append(handle, bytes));
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  });
}

/**
 * Fills a hidden staging directory inside `directory` and, once all of it is on the disk, removes `obsolete` and moves the files
 * that `write` returned up, in that order. Whoever reads the directory goes by the last of them, so a crash in between leaves
 * a directory that is plainly incomplete. Staging inside serves directories that are mount points.
 * @throws as `writeFileAtomically`.
 */
export async function writeFilesTogether(
  directory: string,
  obsolete: readonly string[],
  write: (staging: string) => Promise<readonly string[]>,
): Promise<void> {
  await withTemporary(directory, '.staging', directory, async (staging) => {
    await mkdir(staging);
    const names = await write(staging);
    for (const name of obsolete) await rm(join(directory, name));
    for (const name of names) {
      await mkdir(dirname(join(directory, name)), { recursive: true });
      await rename(join(staging, name), join(directory, name));
    }
    await rm(staging, { recursive: true });
  });
}

// Creates the directory, hands out a free name in it, and removes what is left under that name when `work` throws.
async function withTemporary(directory: string, base: string, target: string, work: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = join(directory, `${base}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`);
  try {
    await mkdir(directory, { recursive: true });
    await removeAbandoned(directory, base);
    await work(temporary);
    await syncDirectory(directory);
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {}); // what failed first is what to tell
    throw fileError(cause, 'write', target);
  }
}

async function append(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(bytes.length - done, WRITE_BYTES));
    done += bytesWritten;
  }
}

/** A rename is on the disk only once its directory is. Windows cannot open directories, and does not need it. */
async function syncDirectory(directory: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Removes what killed processes left for the same target: its owner runs no more, or it is older than the process that has its id now. */
async function removeAbandoned(directory: string, base: string): Promise<void> {
  const started = Date.now() - process.uptime() * 1000;
  for (const name of await readdir(directory)) {
    const owner = name.startsWith(`${base}.`) ? /^(\d+)-[0-9a-f]{8}\.tmp$/.exec(name.slice(base.length + 1)) : null;
    if (!owner) continue;
    const path = join(directory, name);
    const pid = Number(owner[1]);
    const abandoned = pid === process.pid ? (await stat(path)).mtimeMs < started : !isRunning(pid);
    if (abandoned) await rm(path, { recursive: true, force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === 'EPERM'; // it exists and belongs to someone else
  }
}
