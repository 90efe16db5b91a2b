// What goes wrong on the way: altered and truncated files, broken connections, refusals, a full disk, Ctrl-C.
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cacheError } from '../src/errors.js';
import { fetchModel, type HubOptions } from '../src/index.js';
import { gitHash, type HubServer, sha256, startHub } from './hub-server.js';

const commit = 'c'.repeat(40);
const config = '{"model_type":"llama"}';
const weights = Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 7919) % 251));
const other = Buffer.from(weights).reverse();
const name = sha256(weights);

let hub: HubServer;
let cache: string;
let blobs: string;
let waits: number[];
let options: HubOptions;
let broken: { readonly response: ServerResponse; readonly at: number } | undefined;
beforeEach(async () => {
  hub = await startHub();
  hub.repositories.set('models/org/name', { files: { 'config.json': config, 'model.safetensors': weights }, commit });
  cache = await mkdtemp(join(tmpdir(), 'lowbit-hub-'));
  blobs = join(cache, 'models--org--name', 'blobs');
  waits = [];
  broken = undefined;
  options = {
    settings: { cache, endpoint: hub.endpoint, isOffline: false },
    wait: async (milliseconds) => void waits.push(milliseconds),
    onProgress: ({ path, done }) => {
      if (path === 'model.safetensors' && done === broken?.at) broken.response.destroy();
    },
  };
});
afterEach(async () => {
  await hub.close();
  await rm(cache, { recursive: true });
});

const isWeights = ({ url }: IncomingMessage): boolean => url === `/${name}`;
const ranges = (): (string | undefined)[] => hub.requests.filter(({ isElsewhere }) => isElsewhere).map(({ headers }) => headers.range);
const fetched = async (): Promise<Buffer> => readFile(join((await fetchModel('hf:org/name', options)).directory, 'model.safetensors'));
const left = async (): Promise<string[]> => (await readdir(blobs)).filter((file) => file.startsWith(name));

/** Sends `count` bytes from where it was asked to begin, and breaks the connection when they have been taken. */
function cut(request: IncomingMessage, response: ServerResponse, bytes: Buffer, count: number): void {
  const from = Number(/\d+/.exec(request.headers.range ?? '')?.[0] ?? 0);
  const headers = { 'content-length': bytes.length - from, 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` };
  response.writeHead(from > 0 ? 206 : 200, from > 0 ? headers : { 'content-length': bytes.length });
  response.write(bytes.subarray(from, from + count));
  broken = { response, at: from + count };
}

describe('a file that is not what the hub says', () => {
  it.each([
    [
      'altered',
      'config.json',
      (bytes: Buffer) => Buffer.from(bytes).reverse(),
      /HUB_CHECKSUM.*config\.json came with other bytes than the git hash/,
    ],
    ['altered', 'model.safetensors', () => other, /HUB_CHECKSUM.*model\.safetensors came with other bytes than the sha256/],
    [
      'truncated',
      'model.safetensors',
      (bytes: Buffer) => bytes.subarray(0, 2000),
      /HUB_CHECKSUM.*model\.safetensors came with 2000 bytes of 5000/,
    ],
    ['empty', 'config.json', () => Buffer.alloc(0), /HUB_CHECKSUM.*config\.json came with 0 bytes of 22/],
    ['longer', 'model.safetensors', (bytes: Buffer) => Buffer.concat([bytes, bytes]), /HUB_CHECKSUM.*came with more than 5000 bytes/],
    [
      'a page',
      'config.json',
      () => Buffer.from('<html>please log in to this network</html>'),
      /HUB_CHECKSUM.*came with more than 22 bytes/,
    ],
  ])('is refused and removed: %s %s', async (_, file, change, message) => {
    hub.fault = (request, response, bytes) => {
      if (!(file === 'config.json' ? request.url?.endsWith('/resolve/'.concat(commit, '/config.json')) : isWeights(request))) return false;
      response.end(change(bytes));
      return true;
    };
    await expect(fetchModel('hf:org/name', options)).rejects.toThrow(message);
    const hash = file === 'config.json' ? gitHash(config) : name;
    expect((await readdir(blobs)).filter((one) => one.startsWith(hash))).toEqual([]);
    expect(await readdir(join(cache, 'models--org--name', 'snapshots', commit)).catch(() => [])).not.toContain(file);
    // What was wrong with it leaves no trace.
    hub.fault = undefined;
    expect(await fetched()).toEqual(weights);
  });
});

describe('a connection that breaks', () => {
  it('is gone on with where it broke, a few times', async () => {
    hub.fault = (request, response, bytes) => {
      if (!isWeights(request) || ranges().length > 3) return false;
      cut(request, response, bytes, 1000);
      return true;
    };
    expect(await fetched()).toEqual(weights);
    expect(ranges()).toEqual([undefined, 'bytes=1000-', 'bytes=2000-', 'bytes=3000-']);
    expect(waits).toEqual([1000, 2000, 4000]);
    expect(await left()).toEqual([name]);
    // A compressed answer would have neither the length nor the ranges of the file.
    for (const { headers } of hub.requests.filter(({ isElsewhere }) => isElsewhere))
      expect(headers['accept-encoding']).toMatch(/^identity(, identity)*$/);
  });

  it('ends in an error when it goes on, and what came is used another time', async () => {
    hub.fault = (request, response, bytes) => {
      if (!isWeights(request)) return false;
      cut(request, response, bytes, ranges().length === 1 ? 1500 : 1);
      return true;
    };
    await expect(fetched()).rejects.toThrow(/HUB_NETWORK: model org\/name: http.* cannot be reached/);
    expect(ranges()).toEqual([undefined, 'bytes=1500-', 'bytes=1501-', 'bytes=1502-', 'bytes=1503-']);
    expect(await left()).toEqual([expect.stringMatching(/\.partial$/)]);
    hub.fault = undefined;
    hub.requests.length = 0;
    expect(await fetched()).toEqual(weights);
    expect(ranges()).toEqual(['bytes=1504-']);
    expect(await left()).toEqual([name]);
  });

  it('begins again with a server that knows no ranges', async () => {
    hub.fault = (request, response, bytes) => {
      if (!isWeights(request)) return false;
      if (ranges().length === 1) cut(request, response, bytes, 1500);
      else response.end(bytes);
      return true;
    };
    expect(await fetched()).toEqual(weights);
    expect(ranges()).toEqual([undefined, 'bytes=1500-']);
  });

  it('begins again where a range is refused', async () => {
    hub.fault = (request, response, bytes) => {
      if (!isWeights(request) || ranges().length > 2) return false;
      if (ranges().length === 1) cut(request, response, bytes, 1500);
      else response.writeHead(416).end();
      return true;
    };
    expect(await fetched()).toEqual(weights);
    expect(ranges()).toEqual([undefined, 'bytes=1500-', undefined]);
  });

  it('is tried again while the tree is read', async () => {
    let count = 0;
    hub.fault = (request, response) => {
      if (!request.url?.includes('/tree/') || ++count > 2) return false;
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': 1000 });
      response.write('[{"type"', () => response.destroy());
      return true;
    };
    expect(await fetched()).toEqual(weights);
  });
});

describe('cancelling', () => {
  it('stops a download, which goes on another time', async () => {
    const abort = new AbortController();
    hub.fault = (request, response, bytes) => {
      if (!isWeights(request)) return false;
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 2000));
      return true; // and never the rest
    };
    const onProgress = ({ done }: { done: number }): void => {
      if (done === 2000) abort.abort();
    };
    await expect(fetchModel('hf:org/name', { ...options, signal: abort.signal, onProgress })).rejects.toMatchObject({ code: 'ABORTED' });
    hub.fault = undefined;
    hub.requests.length = 0;
    expect(await fetched()).toEqual(weights);
    expect(ranges()).toEqual(['bytes=2000-']);
  });

  it('stops the wait for another try', async () => {
    const abort = new AbortController();
    hub.fault = (_, response) => {
      response.writeHead(503).end(() => abort.abort());
      return true;
    };
    const waiting = fetchModel('hf:org/name', { settings: options.settings, signal: abort.signal });
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED' });
  });

  it('asks nobody when it came first', async () => {
    await expect(fetchModel('hf:org/name', { ...options, signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
    expect(hub.requests).toEqual([]);
  });
});

describe('refusals', () => {
  const answer = (status: number, headers: Readonly<Record<string, string>> = {}): void => {
    hub.fault = (_, response) => {
      response.writeHead(status, headers).end('secret words of a server');
      return true;
    };
  };

  it.each([
    [
      403,
      'GatedRepo',
      /HUB_GATED: model org\/name: is gated; accept its licence at http.*\/org\/name, and log in .*hf auth login, or set HF_TOKEN/,
    ],
    [401, 'GatedRepo', /HUB_GATED/],
    [403, '', /HUB_GATED/],
    [401, 'RepoNotFound', /HUB_ACCESS: model org\/name: is not there, or not for everyone; check the name; .*set HF_TOKEN/],
    [404, 'RepoNotFound', /HUB_MISSING: http.* has no model org\/name; check owner and name \(if it is a dataset/],
    [404, 'RevisionNotFound', /HUB_MISSING: model org\/name: has no revision 'main'/],
    [400, '', /HUB_RESPONSE.*answered 400/],
  ])('%i %s is said once and for all', async (status, code, message) => {
    answer(status, code === '' ? {} : { 'x-error-code': code });
    await expect(fetchModel('hf:org/name', options)).rejects.toThrow(message);
    await expect(fetchModel('hf:org/name', options)).rejects.not.toThrow(/secret words/);
    expect(hub.requests).toHaveLength(2);
  });

  it.each([408, 429, 500, 502, 503, 504])('%i is asked again, four times', async (status) => {
    answer(status);
    await expect(fetchModel('hf:org/name', options)).rejects.toThrow(new RegExp(`HUB_BUSY.*answered ${status} again and again`));
    expect(hub.requests).toHaveLength(5);
    expect(waits).toEqual([1000, 2000, 4000, 8000]);
  });

  it('waits as long as it is asked to, and not for hours', async () => {
    let count = 0;
    hub.fault = (_, response) => {
      if (++count > 2) return false;
      response.writeHead(429, { 'retry-after': count === 1 ? '7' : new Date(Date.now() + 110_000).toUTCString() }).end();
      return true;
    };
    expect(await fetched()).toEqual(weights);
    expect(waits[0]).toBe(7000);
    expect(waits[1]).toBeGreaterThan(2000);
    answer(429, { 'retry-after': '100000' });
    hub.requests.length = 0;
    await expect(fetched()).rejects.toThrow(/HUB_BUSY/);
    expect(hub.requests).toHaveLength(1);
  });

  it('come from files too', async () => {
    hub.fault = (request, response) => {
      if (!request.url?.includes('/resolve/')) return false;
      response.writeHead(403, { 'x-error-code': 'GatedRepo' }).end();
      return true;
    };
    await expect(fetched()).rejects.toThrow(/HUB_GATED/);
  });

  it('are none of a page of something else', async () => {
    hub.fault = (_, response) => {
      response.end('<html></html>');
      return true;
    };
    await expect(fetched()).rejects.toThrow(/HUB_RESPONSE.*does not answer as a hub does/);
    hub.fault = (_, response) => {
      response.end('{"sha":"../../etc"}');
      return true;
    };
    await expect(fetched()).rejects.toThrow(/HUB_RESPONSE.*names no commit/);
  });
});

describe('no network', () => {
  const hangUp = (): void => {
    hub.fault = (request) => {
      request.socket.destroy();
      return true;
    };
  };

  it('is an error, after a few tries', async () => {
    hangUp();
    await expect(fetched()).rejects.toThrow(/HUB_NETWORK.*cannot be reached \(\w+\).*HF_HUB_OFFLINE=1/);
    expect(hub.requests).toHaveLength(5);
    expect(waits).toHaveLength(4);
  });

  it('is none where the cache has the commit', async () => {
    const { directory } = await fetchModel('hf:org/name', options);
    hangUp();
    expect((await fetchModel(`hf:org/name@${commit}`, options)).directory).toBe(directory);
    await expect(fetchModel('hf:org/name', options)).rejects.toThrow(/HUB_NETWORK/);
    await expect(fetchModel(`hf:org/name@${'d'.repeat(40)}`, options)).rejects.toThrow(/HUB_NETWORK/);
  });
});

describe('the token', () => {
  const token = 'hf_secretsecretsecret';

  it('goes to the hub, and nowhere else', async () => {
    await fetchModel('hf:org/name', { ...options, settings: { cache, endpoint: hub.endpoint, isOffline: false, token } });
    const told = (isElsewhere: boolean) =>
      hub.requests.filter((one) => one.isElsewhere === isElsewhere).map(({ headers }) => headers.authorization);
    expect(new Set(told(false))).toEqual(new Set([`Bearer ${token}`]));
    expect(new Set(told(true))).toEqual(new Set([undefined]));
  });

  it.each([401, 403, 404, 500])('is not in the error about %i', async (status) => {
    hub.fault = (_, response) => {
      response.writeHead(status).end(token);
      return true;
    };
    const error = await fetchModel('hf:org/name', {
      ...options,
      settings: { cache, endpoint: hub.endpoint, isOffline: false, token },
    }).catch((one: Error) => one);
    expect(JSON.stringify([error, (error as Error).message, (error as Error).stack])).not.toContain(token);
    if (status < 404) expect((error as Error).message).toContain('HF_TOKEN');
  });
});

describe('the disk', () => {
  it('is known to be too small before anything is fetched', async () => {
    hub.entry = (entry) => (entry.lfs ? { ...entry, lfs: { ...entry.lfs, size: 2 ** 52 } } : entry);
    await expect(fetched()).rejects.toThrow(/DISK_FULL: model org\/name: is 4194304\.0 GiB, and .* free; free some space.*HF_HUB_CACHE/);
    expect(ranges()).toEqual([]);
  });

  it('says when it is full, or may not be written', async () => {
    const full = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
    expect(cacheError(full, '/x')).toMatchObject({ code: 'DISK_FULL', message: expect.stringContaining('HF_HUB_CACHE') as string });
    await writeFile(join(cache, 'file'), '');
    const settings = { cache: join(cache, 'file', 'hub'), endpoint: hub.endpoint, isOffline: false };
    await expect(fetchModel('hf:org/name', { ...options, settings })).rejects.toThrow(/HUB_CACHE: .*cannot be written \(ENOTDIR/);
  });
});
