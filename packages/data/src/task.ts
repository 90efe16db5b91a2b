// Tasks to fine-tune for and to be judged by: examples put into a template, encoded, cut to one length and divided into two parts.
import { createHash } from 'node:crypto';
import { type FinetuneTask, LowbitError, type Rng, type TaskExamples } from '@lowbit/core';
import type { TaskRow, TaskTable } from './task-table.js';
import { labelTokens, parseTemplate, type TaskTemplate } from './task-template.js';
import type { Tokenizer } from './tokenizer.js';

export interface TaskOptions {
  /** '{sentence} It was {label}': the last field is predicted from what comes before it. */
  readonly template: string;
  /** Word of each label: { 0: 'terrible', 1: 'great' }. Without them the whole text of the last field is predicted, over the vocabulary. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly tokenizer: Tokenizer;
  /** Tokens of an example at most: not more than the model's context. */
  readonly length: number;
  /** Draws which examples are held out, and which are kept of too many. */
  readonly rng: Rng;
  /** Examples to judge by; a share of the others by default. */
  readonly dev?: TaskTable | undefined;
  /** That share; 0.1 by default. */
  readonly devShare?: number | undefined;
  /** Examples at most, in each part. */
  readonly limit?: { readonly train?: number | undefined; readonly dev?: number | undefined } | undefined;
}

/** What became of the examples of one part. */
export interface TaskPartReport {
  readonly source: string;
  readonly sha256: string;
  /** In the file, or in this part of it. */
  readonly read: number;
  readonly kept: number;
  /** Of those kept, examples that lost the beginning of what is read. */
  readonly truncated: number;
  /** Not kept, by reason. */
  readonly dropped: Readonly<Record<string, number>>;
  /** Examples of each label; none without labels. */
  readonly labels: Readonly<Record<string, number>>;
}

export interface BuiltTask {
  readonly task: FinetuneTask;
  readonly report: {
    readonly train: TaskPartReport;
    readonly dev: TaskPartReport;
    /** Examples to judge by that are also trained on, token for token. */
    readonly shared: number;
  };
}

/** A share to judge by where there is no file of its own. */
const DEV_SHARE = 0.1;

/**
 * A task from examples. Texts that are too long lose their beginning; the predicted end always stays.
 * @throws TASK_TEMPLATE, TASK_FIELD, TASK_LABEL, LABEL_WORD; TASK_EMPTY when a part would have no example; OPTIONS_INVALID.
 */
export function buildTask(table: TaskTable, options: TaskOptions): BuiltTask {
  const { tokenizer, rng, labels, devShare = DEV_SHARE, limit = {} } = options;
  checkOptions(options);
  const template = parseTemplate(options.template);
  const words = labels && new Map(Object.entries(labels));
  const tokens = words && labelTokens(words, template, tokenizer);
  const parts = divide(table, options.dev, devShare, rng.at('split'));
  const encode = (row: TaskRow): Encoded => encodeRow(row, template, tokens, tokenizer);
  const drawn = {
    train: drawExamples(parts.train, limit.train, rng.at('train'), encode, options.length),
    dev: drawExamples(parts.dev, limit.dev, rng.at('dev'), encode, options.length),
  };
  const length = [...drawn.train.kept, ...drawn.dev.kept].reduce((most, { ids }) => Math.max(most, ids.length), 2);
  const [train, dev] = [examplesOf(drawn.train.kept, length), examplesOf(drawn.dev.kept, length)];
  const candidates = tokens && Int32Array.from(tokens.values());
  const hash = hashOf([train, dev], candidates);
  const reports = { train: reportOf(parts.train, drawn.train, tokens), dev: reportOf(parts.dev, drawn.dev, tokens) };
  const kind = tokens ? `${tokens.size} labels` : `predicts {${template.predicted}}`;
  const protocol = {
    template: template.text,
    labels: labels ?? null,
    candidates: candidates ? Array.from(candidates) : null,
    train: protocolOf(reports.train),
    dev: protocolOf(reports.dev),
    split: options.dev ? 'own dev file' : `a drawn share of ${devShare}`,
    length,
    bos: tokenizer.addsBos,
    taskSha256: hash,
  };
  const description = `${table.name}, ${kind}, ${train.count} train and ${dev.count} dev examples of ${length} tokens`;
  const seen = new Set(drawn.train.kept.map(({ ids }) => ids.join()));
  const shared = drawn.dev.kept.filter(({ ids }) => seen.has(ids.join())).length;
  return { task: { description, hash, candidates, train, dev, protocol }, report: { ...reports, shared } };
}

/** The report in one line, for people. */
export function describeTask({ task, report }: BuiltTask): string {
  const notes = (['train', 'dev'] as const).flatMap((part) => {
    const { truncated, dropped, read, kept, labels } = report[part];
    const lost = Object.entries(dropped).map(([reason, count]) => `${count} dropped (${reason})`);
    const most = Math.max(0, ...Object.values(labels));
    const majority = part === 'dev' && most > 0 ? [`most frequent label ${((100 * most) / kept).toFixed(1)} %`] : [];
    const all = [`${kept} of ${read} examples`, ...(truncated > 0 ? [`${truncated} truncated`] : []), ...lost, ...majority];
    return `${part}: ${all.join(', ')}`;
  });
  const shared = report.shared > 0 ? `; ${report.shared} dev examples are trained on as well` : '';
  return `${task.description}; ${notes.join('; ')}${shared}`;
}

/** sha256 over what a task's examples are. */
export function hashOf(parts: readonly TaskExamples[], candidates: Int32Array | undefined): string {
  const hash = createHash('sha256');
  const add = (name: string, data: Int32Array | Float32Array): void => {
    hash.update(`${name}|${data.length}|`).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  };
  for (const { length, tokens, weights } of parts) {
    add(`tokens ${length}`, tokens);
    add('weights', weights);
  }
  if (candidates) add('candidates', candidates);
  return hash.digest('hex');
}

interface Part {
  readonly name: string;
  readonly sha256: string;
  readonly rows: readonly TaskRow[];
}

/** @throws TASK_EMPTY */
function divide(table: TaskTable, dev: TaskTable | undefined, share: number, rng: Rng): { train: Part; dev: Part } {
  if (dev) return { train: table, dev };
  const { rows } = table;
  const held = Math.max(1, Math.round(rows.length * share));
  if (held >= rows.length) {
    throw new LowbitError(
      'TASK_EMPTY',
      `${table.name}: of ${rows.length} examples, ${held} to judge by leave none to train on; give more, or a dev file`,
    );
  }
  const isHeld = new Set(rng.permutation(rows.length).subarray(0, held));
  const pick = (wanted: boolean): Part => ({ ...table, rows: rows.filter((_, i) => isHeld.has(i) === wanted) });
  return { train: pick(false), dev: pick(true) };
}

interface Encoded {
  /** What is read, then what is predicted. */
  readonly ids: Int32Array;
  /** The first of `ids` that is predicted. */
  readonly from: number;
  /** What stays in front when the beginning is cut off: BOS. */
  readonly fixed: number;
  readonly label: string | undefined;
}

/** @throws TASK_LABEL for a label without a word. */
function encodeRow(row: TaskRow, template: TaskTemplate, tokens: ReadonlyMap<string, number> | undefined, tokenizer: Tokenizer): Encoded {
  const bos = tokenizer.addsBos;
  const fixed = bos ? 1 : 0;
  const prompt = template.prompt(row);
  const read = tokenizer.encode(prompt, { bos });
  const value = row.field(template.predicted).trim();
  if (!tokens) {
    const ids = tokenizer.encode(`${prompt}${template.gap}${value}`, { bos });
    const differs = value === '' ? -1 : ids.findIndex((id, i) => id !== read[i]);
    return { ids, from: Math.max(1, differs < 0 ? ids.length : differs), fixed, label: undefined };
  }
  const token = tokens.get(value);
  if (token === undefined) {
    const known = [...tokens.keys()].join(', ');
    throw new LowbitError('TASK_LABEL', `${row.where}: {${template.predicted}} is '${value}', which has no word; labels are ${known}`);
  }
  return { ids: Int32Array.of(...read, token), from: read.length, fixed, label: value };
}

interface Drawn {
  readonly kept: readonly Encoded[];
  readonly truncated: number;
  readonly dropped: Readonly<Record<string, number>>;
}

/** Encodes examples, in a drawn order if not all are wanted, until there are enough. */
function drawExamples({ rows }: Part, limit = rows.length, rng: Rng, encode: (row: TaskRow) => Encoded, length: number): Drawn {
  const order = limit < rows.length ? Array.from(rng.permutation(rows.length)) : rows.map((_, i) => i);
  const kept: Encoded[] = [];
  const dropped: Record<string, number> = {};
  let truncated = 0;
  for (const index of order) {
    if (kept.length >= limit) break;
    const example = encode(rows[index]);
    const { ids, from, fixed } = example;
    const reason =
      from === 0 || from >= ids.length ? 'nothing to predict' : ids.length - from + Math.max(1, fixed) > length ? 'too long' : undefined;
    if (reason !== undefined) dropped[reason] = (dropped[reason] ?? 0) + 1;
    else kept.push(cutStart(example, length));
    if (reason === undefined && ids.length > length) truncated++;
  }
  return { kept, truncated, dropped };
}

/** At most `length` tokens: without the first of what is read, BOS apart. */
function cutStart(example: Encoded, length: number): Encoded {
  const { ids, from, fixed } = example;
  const excess = ids.length - length;
  if (excess <= 0) return example;
  return { ...example, ids: Int32Array.of(...ids.subarray(0, fixed), ...ids.subarray(fixed + excess)), from: from - excess };
}

/** Padded at the end, which a causal model does not see before it; weight 1 where a predicted token comes next. */
function examplesOf(kept: readonly Encoded[], length: number): TaskExamples {
  const tokens = new Int32Array(kept.length * length);
  const weights = new Float32Array(kept.length * length);
  for (const [row, { ids, from }] of kept.entries()) {
    tokens.set(ids, row * length);
    weights.fill(1, row * length + from - 1, row * length + ids.length - 1);
  }
  return { count: kept.length, length, tokens, weights };
}

/** @throws TASK_EMPTY */
function reportOf(
  { name, sha256, rows }: Part,
  { kept, truncated, dropped }: Drawn,
  tokens: ReadonlyMap<string, number> | undefined,
): TaskPartReport {
  if (kept.length === 0) {
    const why = Object.entries(dropped)
      .map(([reason, count]) => `${count} ${reason}`)
      .join(', ');
    throw new LowbitError('TASK_EMPTY', `${name}: none of ${rows.length} examples can be used (${why}); check the template and the length`);
  }
  const labels = Object.fromEntries([...(tokens?.keys() ?? [])].map((label) => [label, kept.filter((one) => one.label === label).length]));
  return { source: name, sha256, read: rows.length, kept: kept.length, truncated, dropped, labels };
}

function protocolOf({ source, sha256, kept, truncated, labels }: TaskPartReport): Readonly<Record<string, unknown>> {
  return { source, sha256, examples: kept, truncated, labels };
}

function checkOptions({ length, devShare = DEV_SHARE, limit = {}, labels }: TaskOptions): void {
  const fail = (what: string): never => {
    throw new LowbitError('OPTIONS_INVALID', `task: ${what}`);
  };
  if (!(Number.isInteger(length) && length >= 2)) fail(`length must be an integer of at least 2, got ${length}`);
  if (!(devShare > 0 && devShare < 1)) fail(`devShare must lie between 0 and 1, got ${devShare}`);
  for (const [part, count] of Object.entries(limit)) {
    if (count !== undefined && !(Number.isInteger(count) && count >= 1))
      fail(`limit of ${part} must be an integer of at least 1, got ${count}`);
  }
  if (labels && Object.keys(labels).length < 2) fail('labels must be two or more; without them the text of the last field is predicted');
}
