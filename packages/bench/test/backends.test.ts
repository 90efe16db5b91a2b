// Backends by name, and the rate that their others are compared with.
import { matmul, read, tensor } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { backendName, backendNames, chooseBackend, deviceNames, hasThreads, matmulRate, openBackend } from '../src/index.js';

describe('names of backends', () => {
  it('stand for a device, or for the machine to choose one', () => {
    expect(['onnxruntime', 'tfjs', 'auto', 'reference', 'onnxruntime:webgpu'].map(backendName)).toEqual([
      'onnxruntime:cpu',
      'tfjs:auto',
      'onnxruntime:auto',
      'reference',
      'onnxruntime:webgpu',
    ]);
    for (const name of backendNames) expect(backendName(backendName(name))).toBe(backendName(name));
    expect(deviceNames.map(backendName)).toEqual(deviceNames);
  });

  it('are suggested where one is unknown', () => {
    expect(() => backendName('onnxruntime:webgup')).toThrow(/BACKEND_UNKNOWN: .*did you mean 'onnxruntime:webgpu'\?/);
    expect(() => backendName('')).toThrow(/BACKEND_UNKNOWN: .*known: auto, onnxruntime, tfjs, onnxruntime:cpu/);
  });

  it('know who heeds a number of threads', () => {
    expect(['onnxruntime', 'auto', 'tfjs:wasm', 'reference'].map(hasThreads)).toEqual([true, true, false, false]);
  });
});

describe('openBackend', () => {
  it.each(['onnxruntime:cpu', 'tfjs:cpu', 'reference'])('opens %s, which multiplies', async (name) => {
    const backend = await openBackend({ backend: name });
    const x = tensor([1, 2, 3, 4], [2, 2]);
    const [y] = await backend.evaluate([matmul(x, x)]);
    expect(Array.from(await read(y))).toEqual([7, 10, 15, 22]);
    expect(backend.name).toBe(name);
    await backend.dispose();
  });

  it('hands on what a device needs that is missing', async () => {
    const missing = process.platform === 'darwin' ? 'onnxruntime:dml' : 'onnxruntime:coreml';
    await expect(openBackend({ backend: missing })).rejects.toThrow(/BACKEND_UNAVAILABLE/);
  });
});

describe('chooseBackend', () => {
  it('names a device that can be opened, with the reason where the machine chose', async () => {
    expect(await chooseBackend({ backend: 'onnxruntime' })).toEqual({ backend: 'onnxruntime:cpu' });
    const { backend, chosen } = await chooseBackend({ backend: 'auto', threads: 1 });
    expect(deviceNames).toContain(backend);
    expect(chosen).toMatch(/, since /);
  });
});

it('measures products at an order that its time allows', async () => {
  const backend = await openBackend({ backend: 'reference' });
  const { flops, side } = await matmulRate(backend, { seconds: 0.01, largest: 32 });
  expect(side).toBe(32);
  expect(flops).toBeGreaterThan(0);
  await backend.dispose();
});
