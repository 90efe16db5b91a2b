// Options about a task: what to tune for and to judge by.
import type { TaskSource } from '@lowbit/bench';
import { LowbitError } from '@lowbit/core';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { fileOf, integer, type TextArguments } from './arguments.js';

export interface TaskArguments {
  readonly task?: string;
  readonly template?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly taskDev?: string | number;
  readonly taskColumns?: readonly string[];
  readonly taskLength?: number;
  readonly taskLimit?: TaskSource['limit'];
}

/** What each is called on the command line, without the dashes. */
const about = {
  template: 'template',
  labels: 'labels',
  taskDev: 'task-dev',
  taskColumns: 'task-columns',
  taskLength: 'task-length',
  taskLimit: 'task-limit',
} as const;

export function addTaskOptions(command: Command, use: string): Command {
  const add = (flags: string, description: string, read?: (text: string) => unknown): void => {
    const option = new Option(flags, description).helpGroup('Task:');
    command.addOption(read ? option.argParser(read) : option);
  };
  add(
    '--task <source>',
    `${use}: 'sotu-era' (was it said before 1900?), examples in a .jsonl, .parquet or .tsv file, or plain text (.txt, .jsonl, .parquet) without a template; files may be of the Hugging Face hub: hf:owner/name/train.parquet`,
  );
  add('--template <text>', "an example as text, fields in braces, the last one predicted: '{sentence} It was {label}'");
  add(
    '--labels <words>',
    "word of each label, one token long: '0=terrible,1=great'; without them the last field's text is predicted",
    readLabels,
  );
  add('--task-dev <file or share>', 'examples to judge by, or the share of the others that is held out (0.1)', readDev);
  add('--task-columns <names>', "columns of a .tsv file without a header line: 'sentence,label'", readNames);
  add('--task-length <tokens>', 'tokens of an example at most (256, or the context if that is shorter)', integer(2));
  add('--task-limit <counts>', "examples at most, to tune for and to judge by: '1000,500', or one number for both", readLimit);
  return command;
}

/** The task that was asked for; undefined when none was. @throws TASK_OPTIONS for options without a task. */
export function taskSource(options: TaskArguments & TextArguments, directory: string): TaskSource | undefined {
  const { task, template, labels, taskDev, taskColumns: columns, taskLength: length, taskLimit: limit } = options;
  if (task === undefined) {
    const stray = (Object.keys(about) as (keyof typeof about)[]).find((name) => options[name] !== undefined);
    if (stray === undefined) return undefined;
    throw new LowbitError('TASK_OPTIONS', `--${about[stray]}: is about a task, and there is none; name it with --task`);
  }
  const { documents, field } = options;
  return {
    source: task === 'sotu-era' ? task : fileOf(task, directory),
    ...{ template, labels, columns, length, limit },
    dev: typeof taskDev === 'string' ? fileOf(taskDev, directory) : taskDev,
    text: { documents, field },
  };
}

/** 'old,new' or 'a=old,b=new'. */
function readLabels(text: string): Readonly<Record<string, string>> {
  const pairs = readNames(text).map((pair) => {
    const at = pair.indexOf('=');
    return at < 0 ? [pair, pair] : [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
  });
  const labels = Object.fromEntries(pairs) as Record<string, string>;
  if (pairs.length < 2 || Object.keys(labels).length < pairs.length || pairs.some(([label, word]) => label === '' || word === '')) {
    throw new InvalidArgumentError("expected two or more labels with a word each: '0=terrible,1=great'.");
  }
  return labels;
}

function readDev(text: string): string | number {
  const value = Number(text);
  if (text.trim() === '' || Number.isNaN(value)) return text;
  if (!(value > 0 && value < 1)) throw new InvalidArgumentError('expected a file, or a share between 0 and 1.');
  return value;
}

function readNames(text: string): readonly string[] {
  const names = text.split(',').map((name) => name.trim());
  if (names.some((name) => name === '')) throw new InvalidArgumentError('expected names separated by commas.');
  return names;
}

function readLimit(text: string): TaskSource['limit'] {
  const counts = readNames(text).map(integer(1));
  if (counts.length > 2) throw new InvalidArgumentError("expected one or two whole numbers: '1000,500'.");
  return { train: counts[0], dev: counts[1] ?? counts[0] };
}
