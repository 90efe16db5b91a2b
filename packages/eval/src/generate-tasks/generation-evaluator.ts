// Generation tasks as evaluators: a model answers, and the share of right answers is its score.
import { type Evaluator, LowbitError, type Score, throwIfAborted } from '@lowbit/core';
import type { DataRecord, RecordTable, Tokenizer } from '@lowbit/data';
import { meanOf } from '../sample.js';
import { type Shots, shotTexts } from '../tasks/few-shot.js';
import { digestOf, protocolOf } from '../tasks/protocol.js';
import { type GenerateAnswers, writeAnswers } from './answers.js';
import type { CodeSandbox } from './code/sandbox.js';
import type { GenerationTask, Grade } from './task.js';

/** One question, what the model wrote, and what it was worth. */
export interface JudgedAnswer extends Grade {
  readonly task: string;
  /** 'humaneval.test.jsonl:3'. */
  readonly where: string;
  /** Of the record, as the harness hashes it. */
  readonly sha256: string;
  readonly prompt: string;
  readonly answer: string;
}

/** A task, the records it is judged by, and how answers are written. */
export interface GenerationExamples {
  readonly task: GenerationTask;
  readonly records: RecordTable;
  /** The first so many alone. */
  readonly limit?: number | undefined;
  /** Solved examples before each question; none by default. */
  readonly shots?: Shots | undefined;
  readonly tokenizer: Tokenizer;
  readonly generate: GenerateAnswers;
  /** Of an answer at most, in place of the task's own. */
  readonly maxTokens?: number | undefined;
  /** Needed by a task that runs code. */
  readonly sandbox?: CodeSandbox | undefined;
  readonly onAnswer?: ((answer: JudgedAnswer) => void) | undefined;
}

/** Questions answered together. It changes answers by float32 rounding alone. */
const TOGETHER = 8;

/**
 * A task's scores by name, 'gsm8k/strict-match', with what they were measured on. Standard errors are between questions.
 * @throws CODE_EXECUTION for a task that runs code without a sandbox; evaluating, TASK_FIELD, TASK_SHOTS, CONTEXT_LENGTH, SANDBOX_REFUSED.
 */
export function generationEvaluator(examples: GenerationExamples): Evaluator {
  const { task, shots, sandbox, onAnswer } = examples;
  if (task.runsCode && !sandbox) {
    throw new LowbitError(
      'CODE_EXECUTION',
      `${task.name}: runs programs that the model writes, and there is no sandbox to run them in; open one with openCodeSandbox`,
    );
  }
  const maxTokens = examples.maxTokens ?? task.maxTokens;
  const records = examples.records.records.slice(0, examples.limit);
  return {
    name: task.name,
    version: task.version,
    async evaluate(model, { backend, signal, progress }) {
      const prompts = promptsOf(task, records, shots);
      const { tokenizer, generate } = examples;
      const { stops } = task;
      const options = { backend, tokenizer, generate, maxTokens, stops, together: TOGETHER, signal, progress };
      const { texts, shortened } = await writeAnswers(model, prompts, options);
      const grades: Grade[] = [];
      const hashes = records.map(({ value }) => digestOf(value));
      for (const [i, record] of records.entries()) {
        throwIfAborted(signal);
        const grade = await task.grade(record, texts[i], { sandbox, signal });
        grades.push(grade);
        onAnswer?.({ task: task.name, where: record.where, sha256: hashes[i], prompt: prompts[i], answer: texts[i], ...grade });
      }
      const protocol = {
        ...protocolOf({ ...examples, hashes, shortenedPrompts: shortened }, model, backend),
        ...{ maxTokens, stops, decoding: 'greedy', together: TOGETHER, standardError: 'between questions' },
        ...(task.runsCode && sandbox && { sandbox: sandbox.protocol }),
      };
      return task.metrics.map((metric): Score => {
        const { value, stderr } = meanOf(grades.map(({ values }) => values[metric]));
        const evaluator = `${task.name}/${metric}`;
        return { evaluator, version: task.version, value, stderr, samples: records.length, higherIsBetter: true, protocol };
      });
    },
  };
}

function promptsOf(task: GenerationTask, records: readonly DataRecord[], shots: Shots | undefined): string[] {
  const solved = { question: (one: DataRecord) => ({ prompts: [task.prompt(one)], endings: [task.solution(one)], gold: 0 }) };
  const before = shots && shots.count > 0 ? shotTexts({ split: task.split, ...solved }, records, shots) : undefined;
  return records.map((record, i) => (before?.[i] ?? '') + task.prompt(record));
}
