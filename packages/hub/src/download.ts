// One file of the hub into a blob of the cache: gone on with after an interruption, and kept only if its hash is what the hub says.
import { LowbitError, throwIfAborted } from '@lowbit/core';
import { networkError, type Question } from './errors.js';
import { type Blob, openPartial, type Partial } from './partial.js';
import { ATTEMPTS, hubFetch, pause, type RequestOptions } from './request.js';

/** A file of a repository at a commit. */
export interface RemoteFile extends Blob {
  /** With slashes, from the repository's root. */
  readonly path: string;
}

/** A connection that brought so much before it broke is no worse than others. */
const PROGRESS_BYTES = 2 ** 20;

/**
 * Fetches a file of a commit into `blobs`; `onSize` hears how many of its bytes are there.
 * @throws HUB_CHECKSUM for one that came truncated or altered, which is removed; DISK_FULL, HUB_CACHE, and what `hubFetch` throws.
 */
export async function download(
  question: Question,
  file: RemoteFile,
  blobs: string,
  options: RequestOptions,
  onSize: (size: number) => void,
): Promise<void> {
  const partial = await openPartial(blobs, file);
  try {
    await fill(partial, question, file, options, onSize);
  } catch (error) {
    const isUseless = error instanceof LowbitError && ['HUB_CHECKSUM', 'DISK_FULL', 'HUB_MISSING'].includes(error.code);
    await (isUseless || partial.size === 0 ? partial.remove() : partial.leave());
    throw error;
  }
}

async function fill(
  partial: Partial,
  question: Question,
  file: RemoteFile,
  options: RequestOptions,
  onSize: (size: number) => void,
): Promise<void> {
  // What another run left may be bytes of another file.
  let isFresh = partial.size === 0;
  let best = partial.size;
  for (let attempt = 1; ; ) {
    const failure = partial.size === file.size ? undefined : await receive(partial, question, file, options, onSize);
    if (partial.size >= file.size) {
      if (await partial.finish()) return;
      if (isFresh) throw altered(question, file, 'came with other bytes');
      isFresh = true;
      await partial.clear();
      continue;
    }
    attempt = partial.size >= best + PROGRESS_BYTES ? 1 : attempt + 1;
    best = Math.max(best, partial.size);
    if (attempt > ATTEMPTS) throw failure ?? altered(question, file, `came with ${partial.size} bytes of ${file.size}`);
    await pause(attempt - 1, options);
  }
}

/** Appends what the server sends. Returns why the connection broke, if it did. */
async function receive(
  partial: Partial,
  question: Question,
  file: RemoteFile,
  options: RequestOptions,
  onSize: (size: number) => void,
): Promise<LowbitError | undefined> {
  const request = hubFetch(question, options, false, file.path);
  // Bytes as they are: a compressed answer has neither the length nor the ranges of the file.
  const headers = { 'accept-encoding': 'identity', ...(partial.size > 0 && { range: `bytes=${partial.size}-` }) };
  const response = await request(fileUrl(question, file), { headers });
  const from = Number(/^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1] ?? 0);
  // A server that knows no ranges sends all of it.
  if (from !== partial.size || response.status === 416) await partial.clear();
  if (from !== partial.size || response.status === 416) {
    await response.body?.cancel();
    return undefined;
  }
  try {
    for await (const bytes of response.body ?? []) {
      if (partial.size + bytes.length > file.size) throw altered(question, file, `came with more than ${file.size} bytes`);
      await partial.write(bytes);
      onSize(partial.size);
    }
  } catch (cause) {
    throwIfAborted(options.signal);
    if (cause instanceof LowbitError) throw cause;
    return networkError(question, cause);
  }
  return undefined;
}

/** Where the bytes of a file are. */
export function fileUrl({ reference: { kind, repository, revision }, settings: { endpoint } }: Question, { path }: RemoteFile): string {
  const escaped = path.split('/').map(encodeURIComponent).join('/');
  return `${endpoint}/${kind === 'dataset' ? 'datasets/' : ''}${repository}/resolve/${encodeURIComponent(revision)}/${escaped}`;
}

/** What came is not what the hub says it has. */
export function altered(
  { reference: { kind, repository, revision }, settings }: Question,
  { path, hash }: RemoteFile,
  what: string,
): LowbitError {
  const algorithm = hash.length === 64 ? 'sha256' : 'git hash';
  return new LowbitError(
    'HUB_CHECKSUM',
    `${kind} ${repository}: ${path} ${what} than the ${algorithm} ${hash} that ${settings.endpoint} says it has at ${revision}; it was not kept; try again, on another network if it stays so`,
  );
}
