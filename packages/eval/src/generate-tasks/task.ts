// What a generation task is: a prompt for each record of its dataset, and whether what a model writes behind it is right.
import type { DataRecord } from '@lowbit/data';
import type { CodeSandbox } from './code/sandbox.js';

/** An answer as it was judged. */
export interface Grade {
  /** 1 or 0 by metric. */
  readonly values: Readonly<Record<string, number>>;
  /** Why, for people: what was read out of the answer, or how a program ended. */
  readonly reason: string;
}

/** What judging may need. */
interface GradeTools {
  /** There for a task that runs code. */
  readonly sandbox?: CodeSandbox | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * A task with the conventions of EleutherAI's lm-evaluation-harness, whose name for it is `name`: the same prompts, greedy decoding up to the
 * same texts, the same judgement. https://github.com/EleutherAI/lm-evaluation-harness
 */
export interface GenerationTask {
  readonly name: string;
  /** Raised when equal files and answers give other numbers. */
  readonly version: number;
  /** Of the dataset, by convention the one that is judged. */
  readonly split: 'test';
  /** Folder and split as the dataset's own repository on the Hugging Face hub calls them, where not by `name` and `split`. */
  readonly onHub?: { readonly folder: string; readonly split: string };
  /** Solved examples before a question where nobody says otherwise. */
  readonly shots: number;
  /** Of an answer, at most. */
  readonly maxTokens: number;
  /** An answer ends before the first of these. */
  readonly stops: readonly string[];
  readonly metrics: readonly string[];
  /** Whether answers are run as programs: in a sandbox, and only when that is allowed. */
  readonly runsCode: boolean;
  /** @throws TASK_FIELD for a record of another dataset, here and below. */
  prompt(record: DataRecord): string;
  /** What a solved example shows behind its prompt. */
  solution(record: DataRecord): string;
  grade(record: DataRecord, answer: string, tools: GradeTools): Promise<Grade>;
}
