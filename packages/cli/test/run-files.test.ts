// Files of a run: beside the checkpoint, or by themselves where there is none.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createRunFiles } from '../src/run-files.js';
import { temporaryFolder } from './toy-checkpoint.js';

it('writes what has been logged so far where no checkpoint came to be', async () => {
  const { folder, remove } = await temporaryFolder();
  const files = createRunFiles();
  const log = (step: number, value: number): void =>
    files.event({ type: 'log', step, path: 'model', record: { file: 'log.jsonl', lines: [{ value }, { end: true }] } });
  log(0, 1);
  log(1, 2);
  log(1, 3);
  expect(await files.leave(folder)).toEqual(['interrupted-log.jsonl', 'interrupted-log-1.jsonl'].map((name) => join(folder, name)));
  expect(await readFile(join(folder, 'interrupted-log.jsonl'), 'utf8')).toBe('{"value":1}\n{"end":true}\n');
  expect(await readFile(join(folder, 'interrupted-log-1.jsonl'), 'utf8')).toBe('{"value":3}\n{"end":true}\n');
  expect(await readdir(folder)).toHaveLength(2);
  await remove();
});
