// The commands on a WebGPU device.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { swiftShaderEnvironment, withoutSwiftShader } from '../../../test/swiftshader.js';
import { runCommandLine } from '../src/program.js';
import { recordingTerminal, temporaryFolder, writeToyCheckpoint } from './toy-checkpoint.js';

let folder: string;
let remove: () => Promise<void>;
beforeAll(async () => {
  ({ folder, remove } = await temporaryFolder());
  await writeToyCheckpoint(folder);
  await writeFile(
    join(folder, 'text.txt'),
    Array.from({ length: 20 }, (_, i) => `Line ${i} of a text that says little ${i * 7} times.`).join('\n'),
  );
});
afterAll(() => remove());

async function lowbit(...words: readonly string[]): Promise<{ code: number; output: string; errors: string }> {
  const terminal = recordingTerminal();
  const code = await runCommandLine({ arguments: words, terminal, directory: folder, signal: new AbortController().signal });
  return { code, output: terminal.output(), errors: terminal.errors() };
}

describe.skipIf(!swiftShaderEnvironment)(`WebGPU on SwiftShader${withoutSwiftShader}`, () => {
  it('is found and measured', async () => {
    const { output } = await lowbit('devices', 'onnxruntime:webgpu', '--seconds', '0.01', '--json');
    expect(JSON.parse(output)).toMatchObject({ backend: 'onnxruntime:webgpu', gflops: expect.any(Number), side: expect.any(Number) });
  });

  it('quantizes a model, which answers as one that was quantized on the processor', async () => {
    const made: string[] = [];
    for (const device of ['webgpu', 'cpu']) {
      const words = ['--recipe', 'gptq:bits=4,groupSize=16', '--text', 'text.txt', '--window', '16', '--windows', '4', '--quiet'];
      expect((await lowbit('quantize', 'toy', ...words, '--out', device, '--backend', `onnxruntime:${device}`)).code).toBe(0);
      const { output } = await lowbit('generate', device, '--prompt', 'The ', '--tokens', '4', '--json', '--backend', 'onnxruntime');
      made.push((JSON.parse(output.trim().split('\n')[0]) as { text: string }).text);
    }
    expect(made[0]).toBe(made[1]);
  });
});
