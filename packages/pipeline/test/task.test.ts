// A task is handed to the steps that are tuned for one, counts in the key of a stored run, and is checked before anything is read.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { defineMethod, type FinetuneTask, memoryStore, type Recipe, type TaskExamples } from '@lowbit/core';
import { createToyModel } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { quantize } from '../src/index.js';

const backend = createReferenceBackend();
const model = createToyModel({ seed: 1 });
const part = (tokens: readonly number[]): TaskExamples => ({
  count: 1,
  length: tokens.length,
  tokens: Int32Array.from(tokens),
  weights: Float32Array.from(tokens, (_, i) => (i === 0 ? 1 : 0)),
});
const taskOf = (hash: string, tokens = [1, 2, 3]): FinetuneTask => ({
  description: `task ${hash}`,
  hash,
  train: part(tokens),
  dev: part(tokens),
  protocol: {},
});

let seen: (FinetuneTask | undefined)[] = [];
const watching = defineMethod({
  name: 'watching',
  version: 1,
  options: z.strictObject({ aim: z.enum(['task', 'text', 'reference']).default('task') }),
  aim: (options) => options.aim,
  finetune: async (given, { task }) => {
    seen.push(task);
    return given;
  },
});

async function run(recipe: Recipe, task?: FinetuneTask): Promise<string | undefined> {
  seen = [];
  return (await quantize({ model, backend, recipe, task, store: memoryStore() })).runKey;
}

describe('quantize({ task })', () => {
  it('hands it on, and it counts in the key of the run', async () => {
    const without = await run([watching()]);
    expect(seen).toEqual([undefined]);
    const task = taskOf('a');
    const withOne = await run([watching()], task);
    expect(seen).toEqual([task]);
    const keys = [without, withOne, await run([watching()], taskOf('b'))];
    expect(new Set(keys).size).toBe(3);
    expect(await run([watching()], taskOf('a'))).toBe(withOne);
  });

  it.each<[string, Recipe, FinetuneTask, RegExp]>([
    ['that no step is tuned for', [watching({ aim: 'reference' })], taskOf('a'), /TASK_UNUSED: task a: .*\(watching\)/],
    ['for a step that learns the text', [watching({ aim: 'text' })], taskOf('a'), /TASK_UNUSED: task a: .*\(watching\)/],
    [
      'longer than the context',
      [watching()],
      taskOf(
        'a',
        Array.from({ length: 65 }, () => 1),
      ),
      /TASK_MODEL: task a: .*65 tokens/,
    ],
    ['of another vocabulary', [watching()], taskOf('a', [1, 64]), /TASK_MODEL: task a: token 64/],
  ])('refuses a task %s', async (_what, recipe, task, message) => {
    await expect(run(recipe, task)).rejects.toThrow(message);
    expect(seen).toEqual([]);
  });
});
