// Options about tasks of the literature: which ones, and where their files lie.
import { type SuiteSource, suiteData, suiteName, suiteNames } from '@lowbit/bench';
import { LowbitError } from '@lowbit/core';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { integer } from './arguments.js';

export interface SuiteArguments {
  readonly tasks?: readonly string[];
  readonly taskData?: string;
  readonly taskShots?: number;
  readonly taskItems?: number;
  readonly taskTokens?: number;
  readonly allowCodeExecution?: boolean;
}

/** What each is called on the command line, without the dashes. */
const about = {
  taskData: 'task-data',
  taskShots: 'task-shots',
  taskItems: 'task-items',
  taskTokens: 'task-tokens',
  allowCodeExecution: 'allow-code-execution',
} as const;

/** Heading of these options in a command's help. */
export const SUITE_OPTIONS = 'Tasks of the literature:';

export function addSuiteOptions(command: Command): Command {
  const add = (flags: string, description: string, read?: (text: string) => unknown): void => {
    const option = new Option(flags, description).helpGroup(SUITE_OPTIONS);
    command.addOption(read ? option.argParser(read) : option);
  };
  add('--tasks <names>', `judge by these as well, separated by commas: ${suiteNames.join(', ')}`, readNames);
  add(
    '--task-data <directory>',
    "where their files lie: 'arc_easy.test.jsonl', or 'arc_easy/test-00000-of-00001.parquet' as on the hub; or a dataset of the hub, 'hf:allenai/ai2_arc'",
  );
  add('--task-shots <count>', 'solved examples before each question, from the training split (0, gsm8k 5)', integer(0));
  add('--task-items <count>', 'questions of each at most (all)', integer(1));
  add('--task-tokens <count>', 'tokens of a written answer at most (gsm8k 256, humaneval 1024)', integer(1));
  add('--allow-code-execution', 'run the programs that a model writes for humaneval, shut in: no network, no files but their own');
  return command;
}

/** The tasks that were asked for; undefined when none were. @throws TASK_UNKNOWN, TASK_OPTIONS. */
export function suiteSource(options: SuiteArguments, directory: string): SuiteSource | undefined {
  const { tasks, ...given } = options;
  const { taskData, taskShots: shots, taskItems: limit, taskTokens: answerTokens, allowCodeExecution: allowsCode } = given;
  if (tasks === undefined) {
    const stray = (Object.keys(about) as (keyof typeof about)[]).find((name) => given[name] !== undefined);
    if (stray === undefined) return undefined;
    throw new LowbitError('TASK_OPTIONS', `--${about[stray]}: is about --tasks, and none are named`);
  }
  if (taskData === undefined)
    throw new LowbitError('TASK_OPTIONS', '--tasks: needs the directory of their files; name it with --task-data');
  return {
    names: tasks.map(suiteName),
    data: suiteData(taskData, directory),
    shots,
    limit,
    answerTokens,
    allowsCode,
  };
}

function readNames(text: string): readonly string[] {
  const names = text.split(',').map((name) => name.trim());
  if (names.some((name) => name === '')) throw new InvalidArgumentError("expected names separated by commas: 'arc_easy,piqa'.");
  if (new Set(names).size < names.length) throw new InvalidArgumentError('expected each name once.');
  return names;
}
