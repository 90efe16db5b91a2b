// Digests of what a plan reads: what they are over, and that another machine's files are told apart.
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BenchPlan } from '../src/plan.js';
import { checkPlanFiles, planFiles } from '../src/plan-files.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lowbit-files-'));
  mkdirSync(at('models/toy'), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(at(name), text);
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const at = (name: string): string => join(directory, name);
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const files = {
  'text.txt': 'a text',
  'gsm8k.test.jsonl': 'records',
  'gsm8k.train.jsonl': 'solved',
  'models/toy/config.json': '{}',
  'models/toy/a.safetensors': 'weights',
  'models/toy/README.md': 'words',
};

function plan(): BenchPlan {
  const source = { kind: 'file', path: at('text.txt') } as const;
  return {
    ...{ models: ['tiny', 'models/toy'], recipes: [], evaluators: [], seeds: [0] },
    ...{ calibration: { windows: 1, source: { ...source, split: 'train' } }, heldOut: { windows: 1, source } },
    tasks: { names: ['gsm8k'], data: directory },
  };
}

describe('planFiles', () => {
  it('is over texts, records by their task, and what a model is made of', async () => {
    expect(await planFiles(plan(), directory)).toEqual({
      files: { [at('text.txt')]: sha256('a text'), 'gsm8k test': sha256('records'), 'gsm8k train': sha256('solved') },
      weights: { 'models/toy': sha256(`${sha256('weights')}\n${sha256('{}')}`) },
    });
  });

  it('has no solved examples where none are shown', async () => {
    const { tasks, ...rest } = plan();
    const none = await planFiles({ ...rest, tasks: tasks && { ...tasks, shots: 0 } }, directory);
    expect(Object.keys(none.files ?? {})).not.toContain('gsm8k train');
  });

  it('leaves out what is not there, for whoever reads it to say so', async () => {
    const { calibration, heldOut } = plan();
    const absent = { kind: 'file', path: at('absent.txt') } as const;
    const tasks = { names: ['gsm8k', 'piqa'], data: at('nowhere') };
    expect(
      await planFiles(
        { models: ['nowhere'], calibration: { ...calibration, source: absent }, heldOut: { ...heldOut, source: absent }, tasks },
        directory,
      ),
    ).toEqual({});
  });
});

describe('checkPlanFiles', () => {
  it.each([
    ['text.txt', 'toy', 'text.txt'],
    ['gsm8k.test.jsonl', 'toy', 'gsm8k test'],
    ['models/toy/a.safetensors', 'toy', 'models/toy'],
  ])('tells another %s', async (changed, model, name) => {
    const made = { ...plan(), ...(await planFiles(plan(), directory)) };
    await checkPlanFiles(made, model, directory);
    writeFileSync(at(changed), 'another');
    await expect(checkPlanFiles(made, model, directory)).rejects.toMatchObject({
      code: 'PLAN_FILES',
      message: expect.stringContaining(`${name}: not here as the plan was made with`) as string,
    });
  });

  it('is about the model of the cell', async () => {
    const made = { ...plan(), ...(await planFiles(plan(), directory)) };
    rmSync(at('models/toy'), { recursive: true });
    await checkPlanFiles(made, 'tiny', directory);
    await expect(checkPlanFiles(made, 'toy', directory)).rejects.toMatchObject({ code: 'PLAN_FILES' });
    // The same files elsewhere are the same.
    mkdirSync(at('elsewhere/models/toy'), { recursive: true });
    for (const [file, text] of Object.entries(files).filter(([file]) => file.startsWith('models')))
      writeFileSync(at(`elsewhere/${file}`), text);
    await checkPlanFiles(made, 'toy', at('elsewhere'));
  });
});
