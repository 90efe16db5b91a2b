// HumanEval: Python functions to be written from their signature and description, judged by running tests (arXiv 2107.03374).
import { LowbitError } from '@lowbit/core';
import { textOf } from '../tasks/task.js';
import type { GenerationTask } from './task.js';

/** The share of problems whose one greedy answer passes its tests (pass@1). */
export const humaneval: GenerationTask = {
  name: 'humaneval',
  version: 1,
  split: 'test',
  onHub: { folder: 'openai_humaneval', split: 'test' },
  shots: 0,
  maxTokens: 1024,
  stops: ['\nclass', '\ndef', '\n#', '\nif', '\nprint'],
  metrics: ['pass@1'],
  runsCode: true,
  prompt: (record) => textOf(record, 'prompt'),
  solution: (record) => textOf(record, 'canonical_solution'),
  async grade(record, answer, { sandbox, signal }) {
    if (!sandbox) {
      throw new LowbitError('CODE_EXECUTION', 'humaneval: answers are programs, and there is no sandbox to run them in; open one');
    }
    const program = `${textOf(record, 'prompt')}${answer}\n${textOf(record, 'test')}\ncheck(${textOf(record, 'entry_point')})`;
    const { isPassed, reason, detail } = await sandbox.run(program, signal);
    return { values: { 'pass@1': Number(isPassed) }, reason: detail === '' ? reason : `${reason}: ${detail}` };
  },
};
