// Corpora from files: plain text cut by a rule, and JSON Lines.
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';
import { LowbitError } from '@lowbit/core';
import { type Corpus, corpusOf } from './corpus.js';
import { textField } from './text-field.js';

/** Where one document ends: never, at each line, at blank lines, or at every match of an expression (the match is dropped; use a look-ahead to keep it). */
export type DocumentRule = 'whole' | 'lines' | 'blank-lines' | RegExp;

const separators = { lines: /\r?\n/g, 'blank-lines': /\r?\n(?:[ \t]*\r?\n)+/g };

/**
 * Documents of a plain text file in UTF-8.
 * @throws CORPUS_MISSING, CORPUS_ENCODING, CORPUS_EMPTY.
 */
export async function readTextFile(
  path: string,
  { rule = 'whole', name = basename(path) }: { rule?: DocumentRule; name?: string } = {},
): Promise<Corpus> {
  const bytes = await readFile(path).catch((cause: Error) => {
    throw unreadable(path, cause);
  });
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new LowbitError(
      'CORPUS_ENCODING',
      `${path}: cannot be decoded as UTF-8 (${(cause as Error).message}); convert it, for example with iconv`,
      { cause },
    );
  }
  const documents = rule === 'whole' ? [text] : cut(text, rule instanceof RegExp ? rule : separators[rule]);
  return corpusOf(documents, { name, rule: rule instanceof RegExp ? `split at ${rule}` : rule });
}

/** Pieces between the matches. Unlike String.split, groups of the expression add nothing. */
function cut(text: string, separator: RegExp): string[] {
  const everywhere = new RegExp(separator.source, [...new Set(`${separator.flags.replace('y', '')}g`)].join(''));
  const pieces: string[] = [];
  let start = 0;
  for (const match of text.matchAll(everywhere)) {
    pieces.push(text.slice(start, match.index));
    start = match.index + match[0].length;
  }
  pieces.push(text.slice(start));
  return pieces;
}

/**
 * One document a line, the string at `field` of a JSON object: 'text', 'messages.0.content'. Blank lines are passed over.
 * @throws CORPUS_MISSING, CORPUS_EMPTY; CORPUS_JSONL with file and line for a line that is no JSON or lacks the field.
 */
export async function readJsonlFile(
  path: string,
  { field = 'text', name = basename(path) }: { field?: string; name?: string } = {},
): Promise<Corpus> {
  const keys = field.split('.');
  const documents: string[] = [];
  let line = 0;
  const source = createReadStream(path, 'utf8');
  try {
    for await (const text of createInterface({ input: source, crlfDelay: Number.POSITIVE_INFINITY })) {
      line++;
      if (text.trim() !== '') documents.push(textField(parseLine(text, path, line), keys, `${path}:${line}`, 'CORPUS_JSONL'));
    }
  } catch (cause) {
    if (cause instanceof LowbitError) throw cause;
    throw unreadable(path, cause as Error);
  } finally {
    source.destroy();
  }
  return corpusOf(documents, { name, rule: `field '${field}' of each line` });
}

function parseLine(text: string, path: string, line: number): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new LowbitError(
      'CORPUS_JSONL',
      `${path}:${line}: is not JSON (${(cause as Error).message}); correct the line: each must hold one JSON object`,
      { cause },
    );
  }
}

export function unreadable(path: string, cause: Error): LowbitError {
  const isMissing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
  return new LowbitError('CORPUS_MISSING', `${path}: ${isMissing ? 'no such file; check the path' : `cannot be read (${cause.message})`}`, {
    cause,
  });
}
