// Templates of a task: how the fields of an example become a text whose end is predicted, and the tokens of label words.
import { LowbitError } from '@lowbit/core';
import type { TaskRow } from './task-table.js';
import type { Tokenizer } from './tokenizer.js';

/** '{sentence} It was {label}': what comes before the last field is read, and that field is predicted. */
export interface TaskTemplate {
  readonly text: string;
  /** The field that is predicted. */
  readonly predicted: string;
  /** White space between what is read and what is predicted. */
  readonly gap: string;
  /** The literal text before the predicted field, back to the field before it, without the gap. */
  readonly tail: string;
  /** What is read of an example, without white space at its end. */
  prompt(row: TaskRow): string;
}

const FIELD = /\{([^{}]+)\}/g;

/** @throws TASK_TEMPLATE when the template names no field, or does not end with one. */
export function parseTemplate(text: string): TaskTemplate {
  const fields = [...text.matchAll(FIELD)];
  const last = fields.at(-1);
  if (!last) {
    throw new LowbitError('TASK_TEMPLATE', `template '${text}': names no field; write one in braces, such as '{sentence} It was {label}'`);
  }
  const end = last.index + last[0].length;
  if (text.slice(end).trim() !== '') {
    const rest = text.slice(end).trim();
    throw new LowbitError(
      'TASK_TEMPLATE',
      `template '${text}': '${rest}' comes after {${last[1]}}; the last field is what is predicted, end with it`,
    );
  }
  const before = text.slice(0, last.index);
  const read = before.trimEnd();
  const previous = fields.at(-2);
  const tail = previous ? read.slice(Math.min(read.length, previous.index + previous[0].length)) : read;
  return {
    text,
    predicted: last[1],
    gap: before.slice(read.length),
    tail: tail.trimStart(),
    prompt: (row) => read.replace(FIELD, (_, name: string) => row.field(name)).trimEnd(),
  };
}

/**
 * The token of each label word as it stands behind the template's last words.
 * @throws LABEL_WORD when a word is not one token, or two are the same one.
 */
export function labelTokens(labels: ReadonlyMap<string, string>, { tail, gap }: TaskTemplate, tokenizer: Tokenizer): Map<string, number> {
  // Where a field stands right before the label, any word stands in for it.
  const before = tail === '' ? 'a' : tail;
  const start = tokenizer.encode(before);
  const tokens = new Map<string, number>();
  const owners = new Map<number, string>();
  for (const [label, word] of labels) {
    const ids = tokenizer.encode(`${before}${gap}${word}`);
    const own = ids.slice(start.length);
    if (own.length !== 1 || start.some((id, i) => ids[i] !== id)) {
      const pieces = Array.from(own, (id) => `'${tokenizer.decode([id])}'`).join(', ');
      throw new LowbitError(
        'LABEL_WORD',
        `label '${label}': the word '${word}' is not one token behind '${before}${gap}' but ${own.length} (${pieces}); choose another`,
      );
    }
    const other = owners.get(own[0]);
    if (other !== undefined) {
      throw new LowbitError(
        'LABEL_WORD',
        `labels '${other}' and '${label}' have the same token ${own[0]} ('${word}'); give each its own word`,
      );
    }
    owners.set(own[0], label);
    tokens.set(label, own[0]);
  }
  return tokens;
}
