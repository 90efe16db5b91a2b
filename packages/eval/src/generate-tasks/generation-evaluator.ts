// Generation tasks as evaluators: a model answers, and the share of right answers is its score.
import { createHash } from 'node:crypto';
import { type Evaluator, LowbitError, type Score, throwIfAborted } from '@lowbit/core';
import type { DataRecord, RecordTable, Tokenizer } from '@lowbit/data';
import { SHOTS_SEED, type Shots, shotTexts } from '../tasks/few-shot.js';
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
  /** Questions answered together; 8 by default. */
  readonly together?: number | undefined;
  /** Needed by a task that runs code. */
  readonly sandbox?: CodeSandbox | undefined;
  readonly onAnswer?: ((answer: JudgedAnswer) => void) | undefined;
}

/**
 * A task's scores by name, 'gsm8k/strict-match', with what they were measured on. Standard errors are between questions.
 * @throws CODE_EXECUTION for a task that runs code without a sandbox; evaluating, TASK_FIELD, TASK_SHOTS, CONTEXT_LENGTH, SANDBOX_REFUSED.
 */
export function generationEvaluator(examples: GenerationExamples): Evaluator {
  const { task, shots, sandbox, onAnswer, together = 8 } = examples;
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
      const written = await writeAnswers(model, prompts, { backend, tokenizer, generate, maxTokens, stops, together, signal, progress });
      const grades: Grade[] = [];
      const hashes = records.map(({ value }) => sha256(JSON.stringify(value, null, 2)));
      for (const [i, record] of records.entries()) {
        throwIfAborted(signal);
        const grade = await task.grade(record, written.texts[i], { sandbox, signal });
        grades.push(grade);
        onAnswer?.({ task: task.name, where: record.where, sha256: hashes[i], prompt: prompts[i], answer: written.texts[i], ...grade });
      }
      const protocol = {
        ...protocolOf(examples, hashes),
        ...{ maxTokens, stops: task.stops, decoding: 'greedy', shortenedPrompts: written.shortened },
        ...{ dtype: 'float32', backend: backend.name, standardError: 'between questions' },
        ...(task.runsCode && sandbox && { sandbox: sandbox.protocol }),
      };
      return task.metrics.map((metric): Score => {
        const { value, stderr } = shareOf(grades.map(({ values }) => values[metric]));
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

function protocolOf({ task, records, shots }: GenerationExamples, hashes: readonly string[]): Readonly<Record<string, unknown>> {
  const shown = shots && shots.count > 0 ? { file: shots.from.name, fileSha256: shots.from.sha256, seed: shots.seed ?? SHOTS_SEED } : {};
  return {
    task: task.name,
    conventions: 'lm-evaluation-harness',
    split: task.split,
    file: records.name,
    fileSha256: records.sha256,
    examples: hashes.length,
    examplesSha256: sha256(hashes.join('')),
    shots: { count: shots?.count ?? 0, ...shown },
  };
}

/** Mean, and its error from the deviation of a sample, with n − 1. */
function shareOf(values: readonly number[]): { readonly value: number; readonly stderr: number } {
  const value = values.reduce((sum, one) => sum + one, 0) / values.length;
  const squares = values.reduce((sum, one) => sum + (one - value) ** 2, 0);
  return { value, stderr: values.length > 1 ? Math.sqrt(squares / (values.length - 1) / values.length) : 0 };
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
