// What a machine offers to compute on, and names of backends on the command line.
import { describe, expect, it } from 'vitest';
import { commandIn, toyFolder } from './toy-folder.js';

const folder = toyFolder();
const lowbit = commandIn(folder);

describe('lowbit devices', () => {
  it('measures what works, and says of the rest what it needs', async () => {
    const missing = process.platform === 'darwin' ? 'dml' : 'coreml';
    const { code, output } = await lowbit('devices', 'onnxruntime', `onnxruntime:${missing}`, 'reference', '--seconds', '0.01', '--json');
    expect(code).toBe(0);
    const records = output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(records).toEqual([
      {
        backend: 'onnxruntime:cpu',
        gflops: expect.any(Number),
        side: expect.any(Number),
        fingerprint: expect.stringMatching(/cpu, \d+ threads$/),
      },
      { backend: `onnxruntime:${missing}`, code: 'BACKEND_UNAVAILABLE', reason: expect.stringMatching(/it exists on .* only/) },
      { backend: 'reference', gflops: expect.any(Number), side: expect.any(Number), fingerprint: 'reference' },
    ]);
    for (const { gflops, code } of records) if (code === undefined) expect(gflops).toBeGreaterThan(0);
  });

  it('writes a line a device for people', async () => {
    const { output } = await lowbit('devices', 'reference', '--seconds', '0.01', '--quiet');
    expect(output).toMatch(/^reference {2}[\d.]+(e-\d+)? GFLOP\/s +\d+-cube matmul, reference\n$/);
  });

  it('suggests the nearest name', async () => {
    const { code, errors } = await lowbit('devices', 'onnxruntim');
    expect(code).toBe(2);
    expect(errors).toContain("BACKEND_UNKNOWN: no backend is called 'onnxruntim'; did you mean 'onnxruntime'?");
  });
});

describe('--backend', () => {
  const words = ['generate', 'toy', '--prompt', 'The ', '--tokens', '3', '--json'];
  const texts = (output: string): unknown => (JSON.parse(output.trim().split('\n')[0]) as Record<string, unknown>).text;

  it('computes on another backend, to the same text', async () => {
    const [first, second] = [await lowbit(...words, '--backend', 'onnxruntime:cpu'), await lowbit(...words, '--backend', 'reference')];
    expect(second).toMatchObject({ code: 0, errors: '' });
    expect(texts(second.output)).toEqual(texts(first.output));
  });

  it('says what auto takes, and why', async () => {
    const { code, errors } = await lowbit(...words, '--backend', 'auto');
    expect(code).toBe(0);
    expect(errors).toMatch(/^backend: onnxruntime:(\w+): \1, since /);
  });

  it('refuses what it does not know with the nearest name, and threads where nothing heeds them', async () => {
    const unknown = await lowbit(...words, '--backend', 'tjfs');
    expect(unknown.code).toBe(2);
    expect(unknown.errors).toContain("no backend is called 'tjfs'; did you mean 'tfjs'? known: auto, onnxruntime, tfjs,");
    const threads = await lowbit(...words, '--backend', 'reference', '--threads', '2');
    expect(threads).toMatchObject({ code: 2, errors: expect.stringContaining('BACKEND_THREADS: --threads: is for onnxruntime') as string });
  });
});
