// The cache as Hugging Face's programs lay it out: blobs by their hash, snapshots of links to them by commit, refs from names to commits.
// Beside these, what files a commit has: which of them are meant must not depend on which were fetched; and headers of files that were not.
import { createHash, randomBytes } from 'node:crypto';
import { copyFile, mkdir, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { cacheError } from './errors.js';
import type { FileHeader } from './header.js';
import type { HubReference } from './reference.js';

const COMMIT = /^[0-9a-f]{40}$/;

/** Whether a revision is a commit, whose files never change. */
export function isCommit(revision: string): boolean {
  return COMMIT.test(revision);
}

/** Before a header, the size of its file. */
const SIZE_BYTES = 8;

/** The part of the cache that a repository has. */
export interface RepositoryCache {
  /** Where files lie under their hashes. */
  readonly blobs: string;
  /** The commit that a branch or tag was when it was fetched last; undefined when it never was. */
  commitOf(revision: string): Promise<string | undefined>;
  /** Remembers it. */
  setCommit(revision: string, commit: string): Promise<void>;
  /** Paths of all files of a commit, or of a folder of it, if they were listed before. */
  filesOf(commit: string, folder: string): Promise<readonly string[] | undefined>;
  /** Remembers them. */
  setFiles(commit: string, folder: string, files: readonly string[]): Promise<void>;
  /** The header of a file of a commit, if it was fetched before. */
  headerOf(commit: string, path: string): Promise<FileHeader | undefined>;
  /** Remembers it. */
  setHeader(commit: string, path: string, header: FileHeader): Promise<void>;
  /** The directory of a commit's files, whether it is there or not. */
  snapshot(commit: string): string;
  /** Links a file of a commit to a blob. */
  link(commit: string, path: string, blob: string): Promise<void>;
}

export function repositoryCache(cache: string, { kind, repository }: HubReference): RepositoryCache {
  const root = join(cache, `${kind}s--${repository.replace('/', '--')}`);
  const snapshot = (commit: string): string => join(root, 'snapshots', commit);
  const ref = (revision: string): string => join(root, 'refs', ...revision.split('/'));
  const own = (commit: string, path: string, ending: string): string =>
    join(root, '.lowbit', `${commit}-${createHash('sha256').update(path).digest('hex').slice(0, 16)}.${ending}`);
  const tree = (commit: string, folder: string): string => own(commit, folder, 'txt');
  const header = (commit: string, path: string): string => own(commit, path, 'header');
  return {
    blobs: join(root, 'blobs'),
    snapshot,
    async commitOf(revision) {
      if (isCommit(revision)) return revision;
      const text = await readFile(ref(revision), 'utf8').catch(() => undefined);
      return text?.trim() || undefined;
    },
    async setCommit(revision, commit) {
      if (isCommit(revision)) return;
      await place(ref(revision), (path) => writeFile(path, commit));
    },
    async filesOf(commit, folder) {
      const listed = async (path: string): Promise<string[] | undefined> => {
        const text = await readFile(tree(commit, path), 'utf8').catch(() => undefined);
        return text?.split('\n').filter((path) => path !== '');
      };
      const within = await listed(folder);
      if (within || folder === '') return within;
      const all = await listed('');
      return all?.filter((path) => path.startsWith(`${folder}/`)).map((path) => path.slice(folder.length + 1));
    },
    async setFiles(commit, folder, files) {
      // A commit never changes.
      if ((await fileSize(tree(commit, folder))) !== undefined) return;
      await place(tree(commit, folder), (path) => writeFile(path, files.join('\n')));
    },
    async headerOf(commit, path) {
      const stored = await readFile(header(commit, path)).catch(() => undefined);
      if (stored === undefined || stored.length < SIZE_BYTES) return undefined;
      return { size: Number(stored.readBigUInt64LE(0)), bytes: new Uint8Array(stored.subarray(SIZE_BYTES)) };
    },
    async setHeader(commit, path, { bytes, size }) {
      const prefix = Buffer.alloc(SIZE_BYTES);
      prefix.writeBigUInt64LE(BigInt(size));
      await place(header(commit, path), (temporary) => writeFile(temporary, Buffer.concat([prefix, bytes])));
    },
    async link(commit, path, blob) {
      const target = join(snapshot(commit), ...path.split('/'));
      await place(target, async (temporary) => {
        try {
          await symlink(relative(dirname(target), blob), temporary);
        } catch (cause) {
          // Windows allows links to administrators alone.
          if ((cause as NodeJS.ErrnoException).code !== 'EPERM') throw cause;
          await copyFile(blob, temporary);
        }
      });
    },
  };
}

/** Makes a file under another name and renames it: what has the final name is whole. @throws DISK_FULL, HUB_CACHE */
async function place(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${path}.${randomBytes(4).toString('hex')}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await make(temporary);
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw cacheError(cause, path);
  }
}

/** A file's bytes; undefined where there is none, or a link to a blob that is gone. */
export async function fileSize(path: string): Promise<number | undefined> {
  const info = await stat(path).catch(() => undefined);
  return info?.isFile() ? info.size : undefined;
}

/** Files in a directory and below it as paths with slashes, by name; none where there is no such directory. */
export async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => []);
  const paths: string[] = [];
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isDirectory() && (await fileSize(path)) !== undefined) paths.push(relative(directory, path).replaceAll('\\', '/'));
  }
  return paths.sort();
}
