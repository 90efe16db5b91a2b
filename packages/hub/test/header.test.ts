// Headers of weights without the weights: fetched by ranges, kept in the cache, found there offline.
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fetchModel, type HubModel, type HubOptions } from '../src/index.js';
import { type Files, type HubServer, startHub } from './hub-server.js';

const commit = 'c'.repeat(40);
/** A safetensors file of one tensor, with a header of so many bytes. */
function weightsOf(headerBytes: number, dataBytes: number): Buffer {
  const header = JSON.stringify({ w: { dtype: 'U8', shape: [dataBytes], data_offsets: [0, dataBytes] } }).padEnd(headerBytes);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([prefix, Buffer.from(header), Buffer.alloc(dataBytes, 7)]);
}
const first = weightsOf(200, 300_000);
const second = weightsOf(90_000, 250_000);
const names = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'] as const;
const sharded: Files = {
  'config.json': '{}',
  'model.safetensors.index.json': JSON.stringify({ weight_map: { a: names[0], b: names[1] } }),
  [names[0]]: first,
  [names[1]]: second,
};

let hub: HubServer;
let cache: string;
let options: HubOptions;
beforeEach(async () => {
  hub = await startHub();
  cache = await mkdtemp(join(tmpdir(), 'lowbit-hub-header-'));
  options = { settings: { cache, endpoint: hub.endpoint, isOffline: false }, wait: async () => undefined };
});
afterEach(async () => {
  await hub.close();
  await rm(cache, { recursive: true });
});

const offline = (): HubOptions => ({ ...options, settings: { cache, endpoint: hub.endpoint, isOffline: true } });
const serve = (files: Files): void => void hub.repositories.set('models/org/name', { files, commit });
const headers = (how = options): Promise<HubModel> => fetchModel('hf:org/name', { ...how, weights: 'headers' });
/** Of files in LFS. */
const ranges = (): (string | undefined)[] => hub.requests.flatMap((one) => (one.isElsewhere ? [one.headers.range] : []));
const lfs = (url: string | undefined): boolean => /^\/[0-9a-f]{64}$/.test(url ?? '');

describe('headers', () => {
  it('are all that is fetched of the weights, and the rest comes when it is asked for', async () => {
    serve(sharded);
    const model = await headers();
    expect([...model.headers.keys()].sort()).toEqual(names);
    expect(model.headers.get(names[0])).toEqual({ bytes: new Uint8Array(first.subarray(0, 208)), size: first.length });
    // Longer than what is asked for at first.
    expect(Buffer.from(model.headers.get(names[1])?.bytes ?? [])).toEqual(second.subarray(0, 90_008));
    expect(ranges().sort()).toEqual(['bytes=0-65535', 'bytes=0-65535', 'bytes=0-90007']);
    expect((await readdir(model.directory)).sort()).toEqual(['config.json', 'model.safetensors.index.json']);
    expect(model.cache).toBe(cache);
    hub.requests.length = 0;
    expect((await headers()).headers.size).toBe(2);
    expect(ranges(), 'they are kept').toEqual([]);
    expect((await fetchModel('hf:org/name', options)).headers.size).toBe(0);
    expect((await headers()).headers.size, 'files that are there need none').toBe(0);
  });

  it('are in the cache offline, or are missed by the names of their files', async () => {
    serve(sharded);
    await fetchModel('hf:org/name', { ...options, weights: false });
    await expect(headers(offline())).rejects.toThrow(/HUB_OFFLINE/);
    const online = await headers();
    hub.requests.length = 0;
    expect((await headers(offline())).headers).toEqual(online.headers);
    expect(hub.requests).toEqual([]);
    await expect(fetchModel('hf:org/name', offline())).rejects.toThrow(/HUB_OFFLINE.*model-00001-of-00002\.safetensors.* not in/);
    const kept = join(cache, 'models--org--name', '.lowbit');
    for (const name of await readdir(kept)) if (name.endsWith('.header')) await writeFile(join(kept, name), 'x');
    await expect(headers(offline())).rejects.toThrow(/HUB_OFFLINE.*model-00001.*, model-00002.* of it are not in/);
  });

  it('are those of a file alone that another commit has not', async () => {
    serve(sharded);
    await fetchModel('hf:org/name', options);
    hub.repositories.set('models/org/name', { files: { ...sharded, [names[1]]: weightsOf(100, 5000) }, commit: 'd'.repeat(40) });
    const { headers: found, directory } = await headers();
    expect([...found.keys()]).toEqual([names[1]]);
    expect(await readdir(directory)).toContain(names[0]);
  });

  it('come from a server that knows no ranges, and over connections that break', async () => {
    serve({ 'config.json': '{}', 'model.safetensors': first });
    hub.fault = (request, response, bytes) => {
      if (!lfs(request.url)) return false;
      if (ranges().length > 2) response.end(bytes);
      else response.writeHead(200, { 'content-length': bytes.length }).write(bytes.subarray(0, 100), () => response.destroy());
      return true;
    };
    const { bytes } = (await headers()).headers.get('model.safetensors') ?? {};
    expect(Buffer.from(bytes ?? [])).toEqual(first.subarray(0, 208));
    expect(ranges()).toHaveLength(3);
  });

  it.each([
    [
      'a file that ends too early',
      first.subarray(0, 100),
      /HUB_CHECKSUM: model org\/name: model\.safetensors came with 100 bytes of 65536/,
    ],
    ['no file at all', undefined, /HUB_NETWORK/],
  ])('are an error of %s', async (_, sent, message) => {
    serve({ 'config.json': '{}', 'model.safetensors': first });
    hub.fault = (request, response) => {
      if (!lfs(request.url)) return false;
      if (sent) response.end(sent);
      else response.destroy();
      return true;
    };
    await expect(headers()).rejects.toThrow(message);
    expect(ranges()).toHaveLength(5);
  });

  it('of what is no safetensors file are its first 8 bytes: who reads them says what is wrong', async () => {
    serve({ 'config.json': '{}', 'model.safetensors': Buffer.alloc(5000, 0xff) });
    expect((await headers()).headers.get('model.safetensors')).toEqual({ bytes: new Uint8Array(8).fill(0xff), size: 5000 });
    serve({ 'config.json': '{}', 'model.safetensors': '' });
    await rm(cache, { recursive: true });
    expect((await headers()).headers.get('model.safetensors')).toEqual({ bytes: new Uint8Array(), size: 0 });
  });
});
