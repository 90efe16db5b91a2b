// The folder of a run: a cell's rows are written as soon as it is done, so that a killed run keeps what it has, and a later one goes on.
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type Backend, LowbitError } from '@lowbit/core';
import { linesOf, readingFrom, readLines, refuseOthers, replaceFile, union, writingTo } from './json-lines.js';
import { type BenchCell, type CellOutcome, cellName } from './outcome.js';
import { type BenchPlan, cellKey, cellsOf, planDigest } from './plan.js';
import { provenanceOf } from './provenance.js';
import { type BenchRow, hasFailed, readRow } from './row.js';
import { lockRun } from './run-lock.js';

const PLAN = 'plan.json';
const ROWS = 'results.jsonl';
const LOGS = 'logs.jsonl';
const TABLE = 'results.md';
/** What `lowbit report` makes of it. */
export const REPORT = 'report.html';

/** What a run is and what it was made with: plan.json. */
export interface RunRecord {
  /** sha256 over the plan. */
  readonly digest: string;
  readonly plan: BenchPlan;
  readonly versions: Readonly<Record<string, string>>;
  readonly backend: string;
  /** Every commit that rows come from, in their order; see `Provenance`. */
  readonly commits: readonly (string | null)[];
}

/** A line of logs.jsonl. */
export interface LogLine extends BenchCell {
  readonly path: string;
  readonly record: Readonly<Record<string, unknown>>;
}

/** What is kept of a cell. */
export type CellResult = Pick<CellOutcome, 'model' | 'recipe' | 'seed' | 'rows' | 'logs'>;

export interface RunFolder {
  /** Rows that a resumed run need not compute again. */
  readonly kept: readonly BenchRow[];
  /** Cells that are still to run. */
  readonly missing: readonly BenchCell[];
  /** Rows and logs of a cell, on disk when it returns. */
  add(result: CellResult): void;
  /** Puts the rows into the order of the plan, and writes what people read. @returns all rows. */
  finish(summarize: (rows: readonly BenchRow[]) => string): readonly BenchRow[];
  /** Leaves the folder to others. To be called in the end, however that comes about. */
  close(): void;
}

/** What a folder holds that a run has left, finished or not. */
export interface RunFiles {
  /** Undefined where there is no plan.json. */
  readonly record: RunRecord | undefined;
  readonly rows: readonly BenchRow[];
  readonly logs: readonly LogLine[];
}

/** The record of a run that has no rows yet. */
export function recordOf(plan: BenchPlan, backend: Backend): RunRecord {
  const { versions, backend: engine } = provenanceOf(backend);
  return { digest: planDigest(plan), plan, versions, backend: engine, commits: [] };
}

/** Whether a folder holds rows that a run can go on with. */
export function holdsRun(directory: string): boolean {
  return existsSync(join(directory, PLAN)) && existsSync(join(directory, ROWS));
}

/**
 * The files of a run in a directory that is there, which is this process's own until the folder is closed. What an earlier run left stays
 * until this one has a cell. With `isResumed`, cells of the earlier run that are whole and did not fail are kept; the plan may have more
 * models, recipes and seeds than theirs.
 * @throws RUN_LOCKED; RESUME_SETTINGS when they were made with other settings; RESUME_ROWS when they cannot be read; later RESULTS_WRITE.
 */
export function openRunFolder(directory: string, record: RunRecord, isResumed: boolean): RunFolder {
  const lock = lockRun(directory);
  try {
    const earlier = isResumed && holdsRun(directory) ? readWhole(directory, record.plan) : undefined;
    if (earlier) refuseOthers(directory, PLAN, differences(earlier.record, record));
    return { ...folderOf(directory, record, earlier), close: () => lock.release() };
  } catch (error) {
    lock.release();
    throw error;
  }
}

function folderOf(directory: string, record: RunRecord, earlier: Omit<RunFiles, 'record'> | undefined): Omit<RunFolder, 'close'> {
  const path = (name: string): string => join(directory, name);
  const kept = earlier?.rows ?? [];
  const rows = [...kept];
  const done = new Set(kept.map(cellName));
  /** What plan.json says of commits; undefined before the first cell. */
  let commits: RunRecord['commits'] | undefined;
  const start = (): void => {
    for (const name of [TABLE, REPORT]) rmSync(path(name), { force: true });
    // Rows of another run would be taken for rows of this plan if it ended here.
    if (!earlier) rmSync(path(ROWS), { force: true });
  };
  const writing = (write: () => void): void =>
    writingTo(directory, ROWS, () => {
      const isFirst = commits === undefined;
      if (isFirst) start();
      const now = [...new Set(rows.map(({ commit }) => commit))];
      if (!isDeepStrictEqual(commits, now)) replaceFile(path(PLAN), `${JSON.stringify({ ...record, commits: now }, undefined, 2)}\n`);
      commits = now;
      if (isFirst) {
        replaceFile(path(LOGS), linesOf(earlier?.logs ?? []));
        replaceFile(path(ROWS), linesOf(kept));
      }
      write();
    });
  return {
    kept,
    missing: cellsOf(record.plan).filter((cell) => !done.has(cellName(cell))),
    add({ model, recipe, seed, rows: own, logs: said }) {
      rows.push(...own);
      writing(() => {
        const lines = said.filter(isBrief).map((one): LogLine => ({ model, recipe, seed, ...one }));
        // Logs without rows are dropped when a run goes on; rows without logs would be kept.
        if (lines.length > 0) appendFileSync(path(LOGS), linesOf(lines));
        appendFileSync(path(ROWS), linesOf(own));
      });
    },
    finish(summarize) {
      const ordered = inOrder(record.plan, rows);
      writing(() => {
        replaceFile(path(ROWS), linesOf(ordered));
        writeFileSync(path(TABLE), `${summarize(ordered)}\n`);
      });
      return ordered;
    },
  };
}

/**
 * Of rows that are there twice, the first.
 * @throws RUN_MISSING for a directory without results.jsonl, RESUME_ROWS when its files cannot be read.
 */
export function readRun(directory: string): RunFiles {
  const path = (name: string): string => join(directory, name);
  if (!existsSync(path(ROWS))) {
    throw new LowbitError('RUN_MISSING', `${directory}: has no ${ROWS}; give a directory that lowbit bench --out has written`);
  }
  return readingFrom(directory, () => ({
    record: readRecord(directory),
    rows: rowsOnce(readLines<BenchRow>(path(ROWS)).items).map(readRow),
    logs: existsSync(path(LOGS)) ? readLines<LogLine>(path(LOGS)).items : [],
  }));
}

function readRecord(directory: string): RunRecord | undefined {
  const path = join(directory, PLAN);
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as RunRecord) : undefined;
}

/** The engine of the run that a directory holds. @throws RESUME_ROWS */
export function engineIn(directory: string): BenchPlan['engine'] {
  return readingFrom(directory, () => readRecord(directory)?.plan.engine);
}

/** A row is known by its cell and what it is about: two of them would count as two seeds. */
function repeatedIn(rows: readonly BenchRow[]): ReadonlySet<BenchRow> {
  const first = new Map<string, BenchRow>();
  for (const row of rows) {
    const name = `${cellName(row)} ${row.evaluator}`;
    if (!first.has(name)) first.set(name, row);
  }
  const once = new Set(first.values());
  return new Set(rows.filter((row) => !once.has(row)));
}

function rowsOnce(rows: readonly BenchRow[]): BenchRow[] {
  const repeated = repeatedIn(rows);
  return rows.filter((row) => !repeated.has(row));
}

/** Rows and logs of cells of the plan that are whole, there once, and did not fail. */
function readWhole(directory: string, plan: BenchPlan): RunFiles & { readonly record: RunRecord } {
  return readingFrom(directory, () => {
    const { record, rows, logs } = readRun(directory);
    if (!record) throw new Error(`no ${PLAN}`);
    const planned = new Set(cellsOf(plan).map(cellName));
    const dropped = new Set(rows.filter((row) => hasFailed(row) || !planned.has(cellName(row))).map(cellName));
    const { items, isTorn } = readLines<BenchRow>(join(directory, ROWS));
    // A run that was killed while it wrote leaves a part of a line, and a part of its cell.
    for (const row of isTorn ? items.slice(-1) : []) dropped.add(cellName(row));
    // Of a cell that is there twice it cannot be told which logs belong to which.
    for (const row of repeatedIn(items)) dropped.add(cellName(row));
    const whole = rows.filter((row) => !dropped.has(cellName(row)));
    const known = new Set(whole.map(cellName));
    return { record, rows: whole, logs: logs.filter((line) => known.has(cellName(line))) };
  });
}

/** Rows by model, recipe and seed in the order of a plan, whatever order their cells were done in. */
function inOrder(plan: BenchPlan, rows: readonly BenchRow[]): BenchRow[] {
  const places = new Map(cellsOf(plan).map((cell, place) => [cellName(cell), place]));
  const place = (row: BenchRow): number => places.get(cellName(row)) ?? places.size;
  return rows.toSorted((a, b) => place(a) - place(b));
}

/** What would make rows of one run disagree with the other's: settings that differ, and cells that the new plan has no more. */
function differences(earlier: RunRecord, now: RunRecord): string[] {
  // Of the others, what a cell of both plans is made from decides.
  const others = ['models', 'weights', 'files', 'recipes', 'seeds'];
  const fields = union(Object.keys(earlier.plan), Object.keys(now.plan)).filter((field) => !others.includes(field)) as (keyof BenchPlan)[];
  const changed: string[] = fields.filter((field) => !isDeepStrictEqual(earlier.plan[field], now.plan[field]));
  for (const path of differing(earlier.plan.files, now.plan.files)) changed.push(`file ${path}`);
  const models = differing(earlier.plan.weights, now.plan.weights);
  const shared = models.filter((model) => [earlier, now].every(({ plan }) => plan.models.includes(model)));
  for (const model of shared) changed.push(`weights of ${model}`);
  for (const field of ['versions', 'backend'] as const) if (!isDeepStrictEqual(earlier[field], now[field])) changed.push(field);
  if (changed.length > 0) return changed;
  const keys = new Map(cellsOf(now.plan).map((cell) => [cellName(cell), cellKey(now.plan, cell)]));
  const names = cellsOf(earlier.plan).flatMap((cell) => {
    const key = keys.get(cellName(cell));
    if (key === undefined) return [`${cell.model}, ${cell.recipe}, seed ${cell.seed} left out`];
    return key === cellKey(earlier.plan, cell) ? [] : [`recipe '${cell.recipe}'`];
  });
  return [...new Set(names)];
}

function differing(earlier: Readonly<Record<string, string>> = {}, now: Readonly<Record<string, string>> = {}): string[] {
  return union(Object.keys(earlier), Object.keys(now)).filter((name) => earlier[name] !== now[name]);
}

/** Not the lines of a file that belongs beside a checkpoint. */
function isBrief({ record }: { readonly record: Readonly<Record<string, unknown>> }): boolean {
  return !Array.isArray(record['lines']);
}
