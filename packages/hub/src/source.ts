// A repository at a commit: which files it has, and those that are asked for brought into the cache.
import { mkdir, statfs } from 'node:fs/promises';
import { join, posix } from 'node:path';
import type { ListFileEntry } from '@huggingface/hub';
import { LowbitError } from '@lowbit/core';
import { fileSize, filesBelow, isCommit, type RepositoryCache, repositoryCache } from './cache.js';
import { download, type RemoteFile } from './download.js';
import { cacheError, offlineError, type Question } from './errors.js';
import { type FileHeader, fetchHeader } from './header.js';
import { withAbsentParts } from './parts.js';
import { formatHubReference, type HubKind, isPathPart, parseHubReference } from './reference.js';
import { hubFetch, type RequestOptions, responseError } from './request.js';
import { type HubSettings, hubSettings } from './settings.js';

export interface HubOptions extends RequestOptions {
  /** Those of this process by default. */
  readonly settings?: HubSettings | undefined;
  readonly onProgress?: ((progress: HubProgress) => void) | undefined;
}

/** Of the files that are being fetched together. */
export interface HubProgress {
  /** 'owner/name' */
  readonly repository: string;
  /** The file that is being fetched. */
  readonly path: string;
  /** Bytes, of all of them. */
  readonly done: number;
  readonly total: number;
}

/** A model or dataset at a commit. */
export interface HubSource {
  /** 'hf:owner/name@commit', with the folder: what it is called wherever it must be the same again. */
  readonly reference: string;
  /** 'owner/name' */
  readonly repository: string;
  readonly commit: string;
  /** The directory of the cache. */
  readonly cache: string;
  /** Where its files are once they are fetched: of the folder, if there is one. */
  readonly directory: string;
  /** Paths within it; offline, where they were never listed, of what is in the cache and of the parts that are missing beside it. */
  readonly files: readonly string[];
  /** Brings files into the directory; those that it does not have are passed over, unless it is only the cache that has not. @throws HUB_OFFLINE, HUB_CHECKSUM, DISK_FULL, HUB_CACHE, and what requests throw. */
  fetch(paths: readonly string[]): Promise<void>;
  /** Of safetensors files, the headers of those that are not in the directory, by path: what they begin with is fetched, and the files are not. @throws as `fetch`. */
  fetchHeaders(paths: readonly string[]): Promise<ReadonlyMap<string, FileHeader>>;
}

/**
 * Opens what a reference names. A commit that is in the cache is used when the hub cannot be reached.
 * @throws HUB_REFERENCE; HUB_MISSING, HUB_GATED, HUB_ACCESS, HUB_BUSY, HUB_NETWORK, HUB_RESPONSE; HUB_OFFLINE; ABORTED
 */
export async function openSource(text: string, kind: HubKind, options: HubOptions = {}): Promise<HubSource> {
  const reference = parseHubReference(text, kind);
  const settings = options.settings ?? hubSettings();
  const question: Question = { reference, settings };
  const cache = repositoryCache(settings.cache, reference);
  if (settings.isOffline) return cached(question, cache);
  try {
    return await remote(question, cache, options);
  } catch (error) {
    if (!(error instanceof LowbitError) || error.code !== 'HUB_NETWORK' || !isCommit(reference.revision)) throw error;
    return await cached(question, cache).catch(() => {
      throw error;
    });
  }
}

/**
 * A reference to what another one names now: 'hf:owner/name@commit'. Offline, to what it was when it was asked for last.
 * @throws as `openSource`.
 */
export async function pinReference(text: string, kind: HubKind, options: HubOptions = {}): Promise<string> {
  const reference = parseHubReference(text, kind);
  const settings = options.settings ?? hubSettings();
  const question: Question = { reference, settings };
  const cache = repositoryCache(settings.cache, reference);
  const commit = settings.isOffline ? await cache.commitOf(reference.revision) : await commitOf(question, options);
  if (commit === undefined) throw offlineError(question, `${formatHubReference(reference)} is not`);
  // Who fetches by the commit does not know what it was called.
  if (!settings.isOffline) await cache.setCommit(reference.revision, commit);
  return formatHubReference({ ...reference, revision: commit });
}

async function cached(question: Question, cache: RepositoryCache): Promise<HubSource> {
  const { reference } = question;
  const commit = await cache.commitOf(reference.revision);
  const directory = join(cache.snapshot(commit ?? ''), reference.folder);
  const present = commit === undefined ? [] : await filesBelow(directory);
  if (commit === undefined || present.length === 0) throw offlineError(question, `${formatHubReference(reference)} is not`);
  const requirePresent = (missing: readonly string[]): void => {
    if (missing.length > 0) throw offlineError(question, `${missing.join(', ')} of it ${missing.length > 1 ? 'are' : 'is'} not`);
  };
  // Shards of a model are in its index.
  const named = reference.kind === 'dataset' ? withAbsentParts(present) : present;
  const files = (await cache.filesOf(commit, reference.folder)) ?? named;
  return {
    reference: formatHubReference({ ...reference, revision: commit }),
    ...{ repository: reference.repository, commit, cache: question.settings.cache, directory, files },
    async fetch(paths) {
      requirePresent(paths.filter((path) => !present.includes(path)));
    },
    async fetchHeaders(paths) {
      const absent = paths.filter((path) => !present.includes(path));
      const headers = await Promise.all(absent.map((path) => cache.headerOf(commit, posix.join(reference.folder, path))));
      requirePresent(absent.filter((_, i) => !headers[i]));
      return new Map(absent.map((path, i) => [path, headers[i] as FileHeader]));
    },
  };
}

async function remote(question: Question, cache: RepositoryCache, options: HubOptions): Promise<HubSource> {
  const { reference, settings } = question;
  const { repository, revision, folder } = reference;
  const commit = await commitOf(question, options);
  const listed = await list(question, commit, options);
  const prefix = folder === '' ? '' : `${folder}/`;
  const within = new Map(listed.filter(({ path }) => path.startsWith(prefix)).map((file) => [file.path.slice(prefix.length), file]));
  const files = [...within.keys()].sort();
  return {
    reference: formatHubReference({ ...reference, revision: commit }),
    ...{ repository, commit, cache: settings.cache },
    directory: join(cache.snapshot(commit), folder),
    files,
    async fetch(paths) {
      const wanted = paths.flatMap((path) => within.get(path) ?? []);
      await bring({ reference: { ...reference, revision: commit }, settings }, cache, wanted, options);
      await cache.setFiles(commit, folder, files);
      await cache.setCommit(revision, commit);
    },
    async fetchHeaders(paths) {
      const wanted = paths.flatMap((path) => within.get(path) ?? []);
      const headers = await bringHeaders({ reference: { ...reference, revision: commit }, settings }, cache, wanted, options);
      return new Map([...headers].map(([path, header]) => [path.slice(prefix.length), header]));
    },
  };
}

async function commitOf(question: Question, options: HubOptions): Promise<string> {
  const { reference, settings } = question;
  if (isCommit(reference.revision)) return reference.revision;
  // Loaded when the hub is asked: most commands never do.
  const { datasetInfo, modelInfo } = await import('@huggingface/hub');
  const asked = {
    name: reference.repository,
    revision: reference.revision,
    hubUrl: settings.endpoint,
    fetch: hubFetch(question, options, true),
  };
  const info =
    reference.kind === 'model' ? modelInfo({ ...asked, additionalFields: ['sha'] }) : datasetInfo({ ...asked, additionalFields: ['sha'] });
  const { sha } = await info.catch((cause: unknown) => {
    throw responseError(question, cause);
  });
  if (typeof sha === 'string' && isCommit(sha)) return sha;
  throw responseError(question, new Error('it names no commit'));
}

async function list(question: Question, commit: string, options: HubOptions): Promise<RemoteFile[]> {
  const { reference, settings } = question;
  const { listFiles } = await import('@huggingface/hub');
  const files: RemoteFile[] = [];
  try {
    const entries = listFiles({
      repo: { type: reference.kind, name: reference.repository },
      recursive: true,
      path: reference.folder.split('/').map(encodeURIComponent).join('/'),
      revision: commit,
      hubUrl: settings.endpoint,
      fetch: hubFetch(question, options, true),
    });
    for await (const entry of entries) files.push(...remoteFile(entry));
  } catch (cause) {
    throw responseError(question, cause);
  }
  return files;
}

/** None for what is no file, or has a name that would lead out of the cache. */
function remoteFile({ type, path, size, oid, lfs }: ListFileEntry): RemoteFile[] {
  const hash = lfs?.oid ?? oid ?? '';
  const bytes = lfs?.size ?? size;
  const isFile = type === 'file' && path.split('/').every(isPathPart) && /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(hash);
  return isFile && Number.isSafeInteger(bytes) ? [{ path, size: bytes, hash }] : [];
}

/** One after another. Files that are there are left alone. */
async function bring(question: Question, cache: RepositoryCache, wanted: readonly RemoteFile[], options: HubOptions): Promise<void> {
  const { repository, revision: commit } = question.reference;
  const absent: RemoteFile[] = [];
  for (const file of wanted) {
    if ((await fileSize(join(cache.snapshot(commit), file.path))) !== file.size) absent.push(file);
  }
  const missing: RemoteFile[] = [];
  for (const file of absent) if ((await fileSize(join(cache.blobs, file.hash))) !== file.size) missing.push(file);
  const total = missing.reduce((sum, { size }) => sum + size, 0);
  await requireSpace(question, total);
  let done = 0;
  for (const file of absent) {
    if (missing.includes(file)) {
      const report = (size: number): void => options.onProgress?.({ repository, path: file.path, done: done + size, total });
      report(0);
      await download(question, file, cache.blobs, options, report);
      done += file.size;
    }
    await cache.link(commit, file.path, join(cache.blobs, file.hash));
  }
}

/** Requests for headers under way at a time: each is short, and waits for the server most of the time. */
const HEADERS_AT_ONCE = 8;

/** Headers of those files that are not there, by path. A file that another commit has is linked. */
async function bringHeaders(
  question: Question,
  cache: RepositoryCache,
  wanted: readonly RemoteFile[],
  options: HubOptions,
): Promise<ReadonlyMap<string, FileHeader>> {
  const commit = question.reference.revision;
  const absent: RemoteFile[] = [];
  for (const file of wanted) {
    const places = [join(cache.snapshot(commit), file.path), join(cache.blobs, file.hash)];
    const sizes = await Promise.all(places.map(fileSize));
    if (!sizes.includes(file.size)) absent.push(file);
  }
  await bring(
    question,
    cache,
    wanted.filter((file) => !absent.includes(file)),
    options,
  );
  const headers = new Map<string, FileHeader>();
  const queue = [...absent];
  const work = async (): Promise<void> => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      const known = await cache.headerOf(commit, file.path);
      const header = known ?? (await fetchHeader(question, file, options));
      if (!known) await cache.setHeader(commit, file.path, header);
      headers.set(file.path, header);
    }
  };
  await Promise.all(Array.from({ length: Math.min(HEADERS_AT_ONCE, absent.length) }, work));
  return headers;
}

/** Better found out now than after half of it. @throws DISK_FULL, HUB_CACHE */
async function requireSpace({ reference, settings: { cache } }: Question, bytes: number): Promise<void> {
  if (bytes === 0) return;
  let free: number;
  try {
    await mkdir(cache, { recursive: true });
    const { bavail, bsize } = await statfs(cache);
    free = bavail * bsize;
  } catch (cause) {
    throw cacheError(cause, cache);
  }
  if (bytes <= free) return;
  const gib = (amount: number): string => `${(amount / 2 ** 30).toFixed(1)} GiB`;
  throw new LowbitError(
    'DISK_FULL',
    `${reference.kind} ${reference.repository}: is ${gib(bytes)}, and ${cache} has ${gib(free)} free; free some space, or have the cache elsewhere with HF_HUB_CACHE`,
  );
}
