// The list of devices as it comes to be.
import { tmpdir } from 'node:os';
import { expect, it } from 'vitest';
import { runCommandLine } from '../src/program.js';
import { recordingTerminal } from './toy-checkpoint.js';

it('says of a name that leaves the choice to the machine what it takes, and why', async () => {
  const terminal = recordingTerminal();
  const words = ['devices', 'auto', '--quiet'];
  expect(await runCommandLine({ arguments: words, terminal, directory: tmpdir(), signal: new AbortController().signal })).toBe(0);
  expect(terminal.output()).toMatch(/^onnxruntime:auto {2}onnxruntime:(\w+): \1, since .+\n$/);
});

it('is written device by device, so that stopping it loses nothing that was measured', async () => {
  const controller = new AbortController();
  const lines: string[] = [];
  const out = (text: string): void => {
    lines.push(text);
    controller.abort();
  };
  const words = ['devices', 'reference', 'onnxruntime:cpu', '--seconds', '0.01', '--json', '--quiet'];
  const terminal = { out, err: () => {}, isInteractive: false, columns: 80 };
  expect(await runCommandLine({ arguments: words, terminal, directory: tmpdir(), signal: controller.signal })).toBe(130);
  expect(lines.map((line) => (JSON.parse(line) as { backend: string }).backend)).toEqual(['reference']);
});
