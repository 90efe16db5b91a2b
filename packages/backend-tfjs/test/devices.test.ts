// Choosing a device, and what is said where one is missing.
import { createRequire } from 'node:module';
import { gather, LowbitError, mul, read, tensor } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { createTfjsBackend, TFJS_DEVICES, type TfjsDevice } from '../src/index.js';

function isInstalled(name: string): boolean {
  try {
    createRequire(import.meta.url).resolve(name);
    return true;
  } catch {
    return false;
  }
}

describe('devices', () => {
  it('rejects an unknown device and names the known ones', async () => {
    await expect(createTfjsBackend({ device: 'tpu' as never })).rejects.toThrow(/BACKEND_DEVICE: .*'tpu'; known: auto, cuda, webgpu/);
    await expect(createTfjsBackend({ device: 'cpu', residentBytes: -1 })).rejects.toThrow(/BACKEND_MEMORY/);
  });

  // Where somebody has installed the package, the device may be there.
  const packages: [TfjsDevice, string][] = [
    ['cuda', '@tensorflow/tfjs-node-gpu'],
    ['node', '@tensorflow/tfjs-node'],
  ];
  for (const [device, name] of packages) {
    it.skipIf(isInstalled(name))(
      `names the package and the Node versions that ${device} needs (skipped where ${name} is installed)`,
      async () => {
        const error = await createTfjsBackend({ device }).catch((thrown: unknown) => thrown);
        expect(error).toBeInstanceOf(LowbitError);
        expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
        expect((error as LowbitError).message).toContain(`: the package ${name} is not installed; `);
        expect((error as LowbitError).message).toContain(`install ${name} (version 4.22 works with Node 18 to 22`);
      },
    );
  }

  it('chooses a device by itself, and says why', async () => {
    const backend = await createTfjsBackend();
    expect(TFJS_DEVICES).toContain(backend.device);
    expect(backend.name).toBe(`tfjs:${backend.device}`);
    expect(backend.chosen).toMatch(new RegExp(`^${backend.device}, (the first choice|since cuda: .)`));
    await backend.dispose();
    const named = await createTfjsBackend({ device: 'wasm' });
    expect(named.chosen).toBeUndefined();
    expect(named.fingerprint).toBe('tfjs tfjs-backend-wasm 4.22.0, SIMD');
    await named.dispose();
  });

  it('computes on several devices of one process in turn', async () => {
    const backends = [
      await createTfjsBackend({ device: 'cpu' }),
      await createTfjsBackend({ device: 'wasm' }),
      await createTfjsBackend({ device: 'wasm' }),
    ];
    let x = tensor([1, 2]);
    for (const backend of [...backends, ...backends]) [x] = await backend.evaluate([mul(x, 2)]);
    expect(Array.from(await read(x))).toEqual([64, 128]);
    await backends[1].dispose();
    const [y] = await backends[2].evaluate([mul(x, 2)]);
    expect(Array.from(await read(y))).toEqual([128, 256]);
    for (const backend of backends) await backend.dispose();
  });

  it('says which kernel failed on which shapes, and frees what the evaluation had made', async () => {
    const backend = await createTfjsBackend({ device: 'cpu' });
    const [x] = [tensor([1, 2, 3])];
    await backend.evaluate([mul(x, 2)]);
    const { bytes } = backend.statistics.device;
    const beyond = gather(mul(x, 2), tensor(Int32Array.of(7)));
    await expect(backend.evaluate([beyond])).rejects.toThrow(/TFJS_KERNEL: .*GatherV2 of float32\[3\], int32\[1\] failed/);
    // The index is a leaf, which stays.
    expect(backend.statistics.device.bytes).toBe(bytes + 4);
    await backend.dispose();
  });
});
