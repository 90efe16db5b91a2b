// What a training takes, from how many windows it is trained and judged on.
import type { Workload } from '@lowbit/core';
import { expect, it } from 'vitest';
import { trainingCost } from '../src/index.js';

/** Passes of one training: forward and backward of each trained window, twice as much, and forward of each judged one. */
function passesOf(windows: number, holdOut: number): number {
  const one = { flops: 1, elements: 0, bytes: 0 };
  const shape = { linears: [], blocks: 1, weights: 0, width: 4, vocabularySize: 8 };
  const work: Workload<unknown> = { ...shape, options: {}, windows, tokens: 4, forward: one };
  const course = { epochs: 1, batchWindows: 8, holdOut, judgements: 10, parameters: 0, hasTeacher: false, oneByOne: true };
  return trainingCost(work, course).flops;
}

it.each([
  ['none held out: all', 100, 0, 100, 100],
  ['none held out of many: the first 256', 1000, 0, 1000, 256],
  ['a share held out', 100, 0.05, 95, 5],
  ['few held out: one', 8, 0.05, 7, 1],
  ['more held out than are judged', 1000, 0.5, 500, 256],
])('counts the windows that are judged: %s', (_, windows, holdOut, trained, judged) => {
  expect(passesOf(windows, holdOut)).toBe(3 * trained + 10 * judged);
});
