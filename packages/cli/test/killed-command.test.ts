// lowbit quantize killed from outside, again and again, down to the last file that it removes: --resume ends with the files of a run that never was.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { commandIn, toyFolder } from './toy-folder.js';

/** Five processes, each of which may take its time to start on a busy machine. */
const PATIENCE = 1_200_000;

const folder = toyFolder();
const lowbit = commandIn(folder);
const children = new Set<ChildProcess>();
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
});

function quantizing(out: string, ...more: string[]): string[] {
  const small = ['--threads', '1', '--text', 'text.txt', '--window', '32', '--windows', '8', '--memory', '0B'];
  return ['quantize', 'toy', '--recipe', 'gptq:bits=3,groupSize=16', '--out', out, ...small, ...more];
}

/** Runs the command until it is about to do what `place` describes, and kills it there. */
async function killedAt(place: RegExp, words: readonly string[]): Promise<string> {
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
  const imports = ['--import', tsx, '--import', new URL('pause-at.ts', import.meta.url).href];
  const bin = fileURLToPath(new URL('../src/bin.ts', import.meta.url));
  const child = spawn(process.execPath, [...imports, bin, ...words], {
    cwd: folder,
    env: { ...process.env, PAUSE_AT: place.source },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  children.add(child);
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
    if (said.includes('PAUSED')) child.kill('SIGKILL');
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  children.delete(child);
  expect(signal ?? code, said).toBe('SIGKILL');
  return said;
}

/** All files but the seconds in the table of layers, which are in its last column but one. */
async function filesOf(out: string): Promise<Record<string, string>> {
  const names = (await readdir(join(folder, out))).sort();
  const texts = names.map(async (name) => {
    const text = await readFile(join(folder, out, name), 'latin1');
    return [name, name.endsWith('.csv') ? text.replaceAll(/,[^,\n]*(,[^,\n]*)$/gm, '$1') : text] as const;
  });
  return Object.fromEntries(await Promise.all(texts));
}

it(
  'goes on to the same files, computing no block twice that was stored',
  async () => {
    expect((await lowbit(...quantizing('whole'))).code).toBe(0);
    const block = join(folder, 'cut.partial', 'step-0', 'block', 'model.layers.0.safetensors');

    await killedAt(/^name .*cut\.partial.step-0.activations.inputs-1\.safetensors$/, quantizing('cut', '--resume'));
    expect(existsSync(block)).toBe(false);
    await killedAt(/^name .*cut\.partial.step-0.block.model\.layers\.1\.safetensors$/, quantizing('cut', '--resume'));
    const { ino, mtimeMs } = await stat(block);
    for (const place of [/^name .*cut.model\.safetensors$/, /^name .*cut.config\.json$/]) {
      expect(await killedAt(place, quantizing('cut', '--resume'))).toContain('going on with what is there');
      expect(await stat(block)).toMatchObject({ ino, mtimeMs });
      expect(await readdir(join(folder, 'cut'))).not.toContain('config.json');
    }
    const unsaid = await lowbit(...quantizing('cut'));
    expect([unsaid.code, unsaid.errors]).toEqual([2, expect.stringMatching(/OUTPUT_EXISTS: .* with --resume/)]);

    // The checkpoint is whole, and what led to it is about to go.
    await killedAt(/^remove .*cut\.partial.step-0.block/, quantizing('cut', '--resume'));
    expect(await readdir(join(folder, 'cut'))).toContain('config.json');
    const last = await lowbit(...quantizing('cut', '--resume'));
    expect([last.code, last.errors]).toEqual([0, expect.stringContaining('going on with what is there')]);
    expect(await filesOf('cut')).toEqual(await filesOf('whole'));
    expect(existsSync(join(folder, 'cut.partial'))).toBe(false);
  },
  PATIENCE,
);
