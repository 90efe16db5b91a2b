// A GLUE-style task from files, with a real tokenizer. LOWBIT_TEST_DATA names a folder with models/stories15M and tasks/sst2.
import { join } from 'node:path';
import { createRng } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { buildTask, describeTask, loadTokenizer, readTaskFile } from '../src/index.js';

const data = process.env.LOWBIT_TEST_DATA ?? '';

describe.skipIf(data === '')('SST-2 (skipped unless LOWBIT_TEST_DATA names the data folder)', () => {
  it('is read whole: 6,920 and 872 sentences, label words of one token, nothing shared', async () => {
    const tokenizer = await loadTokenizer(join(data, 'models/stories15M'));
    const read = (name: string) => readTaskFile(join(data, 'tasks/sst2', name), { columns: ['sentence', 'label'] });
    const labels = { 0: 'terrible', 1: 'great' };
    const options = { template: '{sentence} It was {label}', labels, tokenizer, length: 64, rng: createRng(0) };
    const built = buildTask(await read('train.tsv'), { ...options, dev: await read('dev.tsv') });
    const { train, dev, candidates = new Int32Array() } = built.task;
    expect([train.count, dev.count, train.length, dev.length]).toEqual([6920, 872, 64, 64]);
    expect(Array.from(candidates, (token) => tokenizer.decode([token]).trim())).toEqual(['terrible', 'great']);
    expect(built.report.dev.labels).toEqual({ 0: 428, 1: 444 });
    expect(describeTask(built)).toContain('most frequent label 50.9 %');
    const row = dev.tokens.subarray(0, 64);
    const end = dev.weights.subarray(0, 64).indexOf(1) + 2;
    expect(tokenizer.decode(row.subarray(0, end))).toBe('one long string of cliches It was terrible');
  });
});
