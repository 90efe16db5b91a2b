// A task for a model, from a source that a person names.
import { createRng, type FinetuneTask, LowbitError } from '@lowbit/core';
import { buildTask, describeTask, localFile, readTaskFile, sotuEra, sotuEraTables, type TaskTable, textTask } from '@lowbit/data';
import type { ResolvedModel } from './model-reference.js';
import { checkWindow, defaultWindow, openCorpus, type TextSource } from './texts.js';

export interface TaskSource {
  /** 'sotu-era', or a .jsonl, .parquet or .tsv file of examples; without a template plain text as `openCorpus` reads it. Files may be of the hub. */
  readonly source: string;
  /** '{sentence} It was {label}' */
  readonly template?: string | undefined;
  /** Word of each label. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** Columns of .tsv files without a header line. */
  readonly columns?: readonly string[] | undefined;
  /** A file to judge by, or the share of the examples that is held out. */
  readonly dev?: string | number | undefined;
  /** Tokens of an example at most; 256, or the model's context if that is shorter. */
  readonly length?: number | undefined;
  /** Examples at most. */
  readonly limit?: { readonly train?: number | undefined; readonly dev?: number | undefined } | undefined;
  /** How plain text is read. */
  readonly text?: Pick<Extract<TextSource, { kind: 'file' }>, 'documents' | 'field'> | undefined;
}

/** What a task is opened for. */
type TaskModel = Pick<ResolvedModel, 'model' | 'tokenizer'> & Partial<Pick<ResolvedModel, 'hub'>>;

/** A task, and one line that says what was read, kept and dropped. */
export interface OpenedTask {
  readonly task: FinetuneTask;
  readonly report: string;
}

/**
 * What is held out and drawn does not depend on the seed of a run, so that a model is never judged by what another command trained it on.
 * @throws TASK_OPTIONS for options that do not go together, WINDOW_CONTEXT, and what reading and building a task throws.
 */
export async function openTask(source: TaskSource, { model, tokenizer, hub }: TaskModel): Promise<OpenedTask> {
  const { limit, dev, columns } = source;
  const length = checkWindow(source.length ?? defaultWindow(model), model);
  const rng = createRng(0).at('task');
  const shared = { tokenizer, length, limit, rng, ...(typeof dev === 'number' && { devShare: dev }) };
  if (source.source === 'sotu-era') {
    refuse(source, ['dev', 'columns'], 'sotu-era has its own');
    const tables = await sotuEraTables();
    return reported(buildTask(tables.train, { ...sotuEra, ...given(source), ...shared, dev: tables.dev }));
  }
  if (source.template === undefined) return openText(source, { tokenizer, hub }, length);
  const read = async (path: string): Promise<TaskTable> =>
    readTaskFile(await localFile(path, hub), { columns: path.endsWith('.tsv') ? columns : undefined });
  const table = await read(source.source);
  const own = typeof dev === 'string' ? await read(dev) : undefined;
  return reported(buildTask(table, { ...shared, template: source.template, labels: source.labels, dev: own }));
}

function reported(built: ReturnType<typeof buildTask>): OpenedTask {
  return { task: built.task, report: describeTask(built) };
}

/** Template and labels in place of a task's own. */
function given({ template, labels }: TaskSource): Pick<TaskSource, 'template' | 'labels'> & { template?: string } {
  return { ...(template !== undefined && { template }), ...(labels && { labels }) };
}

async function openText(source: TaskSource, { tokenizer, hub }: Pick<TaskModel, 'tokenizer' | 'hub'>, window: number): Promise<OpenedTask> {
  if (source.source.endsWith('.tsv')) {
    throw new LowbitError(
      'TASK_OPTIONS',
      `${source.source}: examples need a template that says what is predicted, such as '{sentence} It was {label}'`,
    );
  }
  refuse(source, ['labels', 'columns'], 'plain text has none; give a template for examples');
  const { dev, limit, text } = source;
  if (typeof dev === 'number') {
    throw new LowbitError(
      'TASK_OPTIONS',
      `${source.source}: of plain text a tenth is held out; name a file to judge by in place of the share ${dev}`,
    );
  }
  const part = (path: string, split: 'train' | 'held-out' | 'all') => openCorpus({ kind: 'file', path, split, ...text }, split, hub);
  const train = await part(source.source, dev === undefined ? 'train' : 'all');
  const held = dev === undefined ? await part(source.source, 'held-out') : await part(dev, 'all');
  const task = textTask(train, { dev: held, tokenizer, window, limit, rng: createRng(0).at('task') });
  return { task, report: task.description };
}

function refuse(source: TaskSource, names: readonly (keyof TaskSource)[], why: string): void {
  const wrong = names.find((name) => source[name] !== undefined);
  if (wrong !== undefined) throw new LowbitError('TASK_OPTIONS', `${source.source}: takes no ${wrong}: ${why}`);
}
