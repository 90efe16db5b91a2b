// What a choice task is: how a record of its dataset becomes texts whose log-likelihoods are compared.
import { LowbitError } from '@lowbit/core';
import type { DataRecord } from '@lowbit/data';
import type { ChoiceMetric } from './metrics.js';

/** An example as texts. Prompts and endings go by pairs, one for each choice. */
export interface Question {
  /** What the model reads. */
  readonly prompts: readonly string[];
  /** What is scored behind the prompt. */
  readonly endings: readonly string[];
  /** Index of the right choice. */
  readonly gold: number;
}

/**
 * A task with the conventions of EleutherAI's lm-evaluation-harness, whose name for it is `name`: the same texts, joined in the same way.
 * https://github.com/EleutherAI/lm-evaluation-harness
 */
export interface ChoiceTask {
  readonly name: string;
  /** Raised when equal files give other numbers. */
  readonly version: number;
  /** Of the dataset, by convention the one that is judged. */
  readonly split: 'test' | 'validation';
  /** Folder and split as the dataset's own repository on the Hugging Face hub calls them, where not by `name` and `split`. */
  readonly onHub?: { readonly folder: string; readonly split: string };
  readonly metrics: readonly ChoiceMetric[];
  /** Between a prompt and what is scored behind it; a space where nothing is said. */
  readonly delimiter?: string;
  /** @throws TASK_FIELD for a record of another dataset. */
  question(record: DataRecord): Question;
  /** What the harness takes for the record, where it adds to it: digests of examples are of that. */
  document?(record: DataRecord): Readonly<Record<string, unknown>>;
}

/** One prompt with choices behind it. */
export function choose(prompt: string, choices: readonly string[], gold: number): Question {
  return { prompts: choices.map(() => prompt), endings: choices, gold };
}

/** @throws TASK_FIELD unless the field ('a.b' is a field within a field) is a text. */
export function textOf(record: DataRecord, field: string): string {
  const value = valueOf(record, field);
  return typeof value === 'string' ? value : refuse(record, field, 'a text');
}

/** @throws TASK_FIELD unless the field is a list of texts. */
export function textsOf(record: DataRecord, field: string): readonly string[] {
  const value = valueOf(record, field);
  return Array.isArray(value) && value.every((one) => typeof one === 'string') ? value : refuse(record, field, 'a list of texts');
}

/**
 * A label: a number, a text that is one, or a boolean.
 * @throws TASK_FIELD unless it is a whole number below `count`. Test splits without answers have −1 or nothing.
 */
export function labelOf(record: DataRecord, field: string, count: number): number {
  const value = valueOf(record, field);
  const label = typeof value === 'string' && value.trim() !== '' ? Number(value) : typeof value === 'boolean' ? Number(value) : value;
  const isLabel = typeof label === 'number' && Number.isInteger(label) && label >= 0 && label < count;
  return isLabel ? label : refuse(record, field, `a label from 0 to ${count - 1} (a split without answers cannot be judged)`);
}

/** Place of a text among others. @throws TASK_FIELD when it is not among them. */
export function placeOf(record: DataRecord, field: string, text: string, among: readonly string[]): number {
  const place = among.indexOf(text);
  return place >= 0 ? place : refuse(record, field, `one of ${among.join(', ')}`);
}

function valueOf({ value }: DataRecord, field: string): unknown {
  const within = (inner: unknown, key: string): unknown =>
    typeof inner === 'object' && inner !== null && Object.hasOwn(inner, key) ? (inner as Record<string, unknown>)[key] : undefined;
  return field.split('.').reduce<unknown>(within, value);
}

function refuse({ where, value }: DataRecord, field: string, expected: string): never {
  const known = Object.keys(value).join(', ') || 'no fields';
  throw new LowbitError('TASK_FIELD', `${where}: field '${field}' is not ${expected}; it has ${known}; is this the task's dataset?`);
}
