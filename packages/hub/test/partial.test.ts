// Files of the cache that are being fetched: what an interrupted run left, what others write to, and what is on the disk in the end.
import { appendFile, mkdir, mkdtemp, open, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fetchModel, type HubOptions } from '../src/index.js';
import { type HubServer, sha256, startHub } from './hub-server.js';

const weights = Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 7919) % 251));
const other = Buffer.from(weights).reverse();
const name = sha256(weights);
const host = hostname().replace(/[^\w-]/g, '_');

let hub: HubServer;
let cache: string;
let blobs: string;
let options: HubOptions;
beforeEach(async () => {
  hub = await startHub();
  hub.repositories.set('models/org/name', { files: { 'config.json': '{}', 'model.safetensors': weights }, commit: 'c'.repeat(40) });
  cache = await mkdtemp(join(tmpdir(), 'lowbit-hub-'));
  blobs = join(cache, 'models--org--name', 'blobs');
  options = { settings: { cache, endpoint: hub.endpoint, isOffline: false }, wait: async () => undefined };
});
afterEach(async () => {
  await hub.close();
  await rm(cache, { recursive: true });
});

const ranges = (): (string | undefined)[] => hub.requests.filter(({ isElsewhere }) => isElsewhere).map(({ headers }) => headers.range);
const fetched = async (): Promise<Buffer> => readFile(join((await fetchModel('hf:org/name', options)).directory, 'model.safetensors'));
const left = async (): Promise<string[]> => (await readdir(blobs)).filter((file) => file.startsWith(name));

describe('what another run has left', () => {
  const leave = async (suffix: string, bytes: Uint8Array): Promise<string> => {
    await mkdir(blobs, { recursive: true });
    await writeFile(join(blobs, `${name}.${suffix}`), bytes);
    return join(blobs, `${name}.${suffix}`);
  };

  it.each(['00000000.partial', `00000000.partial.${host}.999999999`])('is gone on with: %s', async (suffix) => {
    await leave(suffix, weights.subarray(0, 4000));
    expect(await fetched()).toEqual(weights);
    expect(ranges()).toEqual(['bytes=4000-']);
    expect(await left()).toEqual([name]);
  });

  it('is gone on with after a restart under the same process number', async () => {
    const path = await leave(`00000000.partial.${host}.${process.pid}`, weights.subarray(0, 4000));
    await utimes(path, 0, 0);
    expect(await fetched()).toEqual(weights);
    expect(ranges()).toEqual(['bytes=4000-']);
  });

  it('is gone on with when a process of another machine has been silent for more than a day', async () => {
    const path = await leave('00000000.partial.another-machine.1', weights.subarray(0, 4000));
    const then = Date.now() / 1000 - 25 * 3600;
    await utimes(path, then, then);
    expect(await fetched()).toEqual(weights);
    expect(ranges()).toEqual(['bytes=4000-']);
  });

  it.each([
    ['of other bytes', other.subarray(0, 4000)],
    ['whole, of other bytes', other],
    ['too long', Buffer.concat([weights, weights])],
  ])('is thrown away: %s', async (_, bytes) => {
    await leave('00000000.partial', bytes);
    expect(await fetched()).toEqual(weights);
    expect(ranges().at(-1)).toBeUndefined();
    expect(await left()).toEqual([name]);
  });

  it('needs no request when it is whole', async () => {
    await leave('00000000.partial', weights);
    expect(await fetched()).toEqual(weights);
    expect(ranges()).toEqual([]);
  });

  it.each([`00000000.partial.${host}.${process.ppid}`, '00000000.partial.another-machine.999999999', 'incomplete'])(
    'is left alone while others write to it: %s',
    async (suffix) => {
      const path = await leave(suffix, other);
      expect(await fetched()).toEqual(weights);
      expect(ranges()).toEqual([undefined]);
      expect(await readFile(path)).toEqual(other);
    },
  );

  it('does not matter to two that fetch at once', async () => {
    expect(await Promise.all([fetched(), fetched(), fetched()])).toEqual([weights, weights, weights]);
    expect(await left()).toEqual([name]);
  });
});

describe('what is on the disk in the end', () => {
  const spoil = {
    'is longer than what came': (path: string) => appendFile(path, other),
    'has other bytes than what came': async (path: string) => {
      const file = await open(path, 'r+');
      await file.write(other, 0, 100, 0);
      await file.close();
    },
  };

  it.each(Object.entries(spoil))('is looked at, and not kept when it %s', async (_, change) => {
    let spoiled: Promise<unknown> | undefined;
    // Before the last of it comes: as another process would that writes into the same file.
    hub.fault = (request, response, bytes) => {
      if (request.url !== `/${name}`) return false;
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 3000));
      release = () => void response.end(bytes.subarray(3000));
      return true;
    };
    let release = (): void => undefined;
    const onProgress = ({ path, done }: { path: string; done: number }): void => {
      if (path !== 'model.safetensors' || done !== 3000 || spoiled) return;
      spoiled = left().then(async ([partial]) => {
        await change(join(blobs, partial));
        release();
      });
    };
    await expect(fetchModel('hf:org/name', { ...options, onProgress })).rejects.toThrow(
      /HUB_CHECKSUM.*model\.safetensors came with other bytes/,
    );
    await spoiled;
    expect(await left()).toEqual([]);
    hub.fault = undefined;
    expect(await fetched()).toEqual(weights);
  });
});
