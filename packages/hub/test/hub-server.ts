// A hub on this machine for tests: the answers that Hugging Face's gives about repositories, trees and files, with LFS files elsewhere.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Files by path; those of this size and more are in LFS. */
export type Files = Readonly<Record<string, string | Uint8Array>>;
const LFS_BYTES = 1000;

interface Repository {
  readonly files: Files;
  readonly commit: string;
  /** Other branches and tags than 'main' that are this commit. */
  readonly revisions?: readonly string[];
}

export interface HubServer {
  readonly endpoint: string;
  /** 'models/owner/name' and 'datasets/owner/name'. */
  readonly repositories: Map<string, Repository>;
  /** What was asked: 'GET /api/…', with headers. */
  readonly requests: { readonly url: string; readonly headers: IncomingMessage['headers']; readonly isElsewhere: boolean }[];
  /** Answers in place of the hub where it returns true. */
  fault: ((request: IncomingMessage, response: ServerResponse, bytes: Buffer) => boolean) | undefined;
  /** Entries of a tree in one answer. */
  pageLength: number;
  /** Changes entries of trees. */
  entry: (entry: TreeEntry) => TreeEntry;
  close(): Promise<void>;
}

export interface TreeEntry {
  readonly type: string;
  readonly path: string;
  readonly size: number;
  readonly oid: string;
  readonly lfs?: { readonly oid: string; readonly size: number; readonly pointerSize: number };
}

export const sha256 = (bytes: string | Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** As `git hash-object` has it. */
export function gitHash(bytes: string | Uint8Array): string {
  return createHash('sha1')
    .update(`blob ${Buffer.byteLength(bytes)}\0`)
    .update(bytes)
    .digest('hex');
}

export function entryOf(path: string, content: string | Uint8Array): TreeEntry {
  const size = Buffer.byteLength(content);
  const entry = { type: 'file', path, size, oid: gitHash(content) };
  return size < LFS_BYTES ? entry : { ...entry, oid: gitHash('pointer'), lfs: { oid: sha256(content), size, pointerSize: 130 } };
}

async function listen(server: Server): Promise<string> {
  // Connections are closed by tests alone, however slow they are.
  server.keepAliveTimeout = 0;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Bytes, or the range of them that was asked for. */
function send(request: IncomingMessage, response: ServerResponse, bytes: Buffer, headers: Readonly<Record<string, string>>): void {
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
  if (from === undefined) {
    response.writeHead(200, { ...headers, 'content-length': bytes.length }).end(bytes);
  } else if (Number(from) >= bytes.length) {
    response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end();
  } else {
    const part = bytes.subarray(Number(from), to ? Number(to) + 1 : bytes.length);
    const range = `bytes ${from}-${Number(from) + part.length - 1}/${bytes.length}`;
    response.writeHead(206, { ...headers, 'content-length': part.length, 'content-range': range }).end(part);
  }
}

export async function startHub(): Promise<HubServer> {
  const repositories: HubServer['repositories'] = new Map();
  const requests: HubServer['requests'] = [];
  const large = new Map<string, Buffer>();
  const refuse = (response: ServerResponse, status: number, code: string): void =>
    void response.writeHead(status, { 'x-error-code': code, 'content-type': 'application/json' }).end('{"error":"no"}');

  const store = createServer((request, response) => {
    requests.push({ url: request.url ?? '', headers: request.headers, isElsewhere: true });
    const bytes = large.get(request.url?.slice(1) ?? '') ?? Buffer.alloc(0);
    if (!hub.fault?.(request, response, bytes)) send(request, response, bytes, {});
  });
  const storeAddress = await listen(store);

  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '', 'http://hub');
    requests.push({ url: request.url ?? '', headers: request.headers, isElsewhere: false });
    const api = /^\/api\/((?:models|datasets)\/[^/]+\/[^/]+)\/(revision|tree)\/([^/]+)(?:\/(.*))?$/.exec(url.pathname);
    const file = /^\/(datasets\/)?([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.*)$/.exec(url.pathname);
    const name = api ? api[1] : file ? `${file[1] ?? 'models/'}${file[2]}` : '';
    const repository = repositories.get(name);
    const path = decodeURIComponent((api ? api[4] : file?.[4]) ?? '');
    const content = repository && Object.hasOwn(repository.files, path) ? Buffer.from(repository.files[path]) : Buffer.alloc(0);
    if (hub.fault?.(request, response, content)) return;
    if (!repository) return refuse(response, 404, 'RepoNotFound');
    const revision = decodeURIComponent((api ? api[3] : file?.[3]) ?? '');
    if (!['main', repository.commit, ...(repository.revisions ?? [])].includes(revision)) return refuse(response, 404, 'RevisionNotFound');
    if (api?.[2] === 'revision') {
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ _id: '1', id: name, sha: repository.commit }));
    } else if (api) {
      const prefix = path === '' ? '' : `${path}/`;
      const found = Object.entries(repository.files).filter(([one]) => one.startsWith(prefix));
      if (found.length === 0 && path !== '') return refuse(response, 404, 'EntryNotFound');
      const from = Number(url.searchParams.get('cursor') ?? 0);
      const page = found.slice(from, from + hub.pageLength).map(([one, bytes]) => hub.entry(entryOf(one, bytes)));
      url.searchParams.set('cursor', String(from + hub.pageLength));
      const isLast = from + hub.pageLength >= found.length;
      const next = isLast ? {} : { link: `<${hub.endpoint}${url.pathname}${url.search}>; rel="next"` };
      response.writeHead(200, { 'content-type': 'application/json', ...next }).end(JSON.stringify(page));
    } else if (!Object.hasOwn(repository.files, path)) {
      refuse(response, 404, 'EntryNotFound');
    } else if (content.length < LFS_BYTES) {
      send(request, response, content, { etag: `"${gitHash(content)}"` });
    } else {
      large.set(sha256(content), content);
      response.writeHead(302, { location: `${storeAddress}/${sha256(content)}`, 'x-linked-etag': `"${sha256(content)}"` }).end();
    }
  });
  const endpoint = await listen(server);

  const hub: HubServer = {
    endpoint,
    repositories,
    requests,
    fault: undefined,
    pageLength: 1000,
    entry: (entry) => entry,
    async close() {
      for (const one of [server, store]) {
        one.close();
        one.closeAllConnections();
        await once(one, 'close');
      }
    },
  };
  return hub;
}
