// The folder of a run: a cell's rows are written as soon as it is done, so that a killed run keeps what it has, and a later one goes on.
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type Backend, LowbitError } from '@lowbit/core';
import { linesOf, readingFrom, readLines, refuseOthers, replaceFile, union, writingTo } from './json-lines.js';
import { type BenchCell, type CellOutcome, cellName } from './outcome.js';
import { type BenchPlan, cellKey, cellsOf, planDigest } from './plan.js';
import { provenanceOf } from './provenance.js';
import { type BenchRow, isScore, readRow } from './row.js';

const PLAN = 'plan.json';
const ROWS = 'results.jsonl';
const LOGS = 'logs.jsonl';
const TABLE = 'results.md';

/** What a run is and what it was made with: plan.json. */
export interface RunRecord {
  /** sha256 over the plan. */
  readonly digest: string;
  readonly plan: BenchPlan;
  readonly versions: Readonly<Record<string, string>>;
  readonly backend: string;
  /** Every commit that rows come from; see `Provenance`. */
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
  readonly record: RunRecord;
  /** Rows that a resumed run need not compute again. */
  readonly kept: readonly BenchRow[];
  /** Cells that are still to run. */
  readonly missing: readonly BenchCell[];
  /** Rows and logs of a cell, on disk when it returns. */
  add(result: CellResult): void;
  /** Puts the rows into the order of the plan, and writes what people read. @returns all rows. */
  finish(summarize: (rows: readonly BenchRow[]) => string): readonly BenchRow[];
}

/** What a folder holds that a run has left, finished or not. */
export interface RunFiles {
  /** Undefined where there is no plan.json. */
  readonly record: RunRecord | undefined;
  readonly rows: readonly BenchRow[];
  readonly logs: readonly LogLine[];
}

export function recordOf(plan: BenchPlan, backend: Backend): RunRecord {
  const { versions, backend: engine, commit } = provenanceOf(backend);
  return { digest: planDigest(plan), plan, versions, backend: engine, commits: [commit] };
}

/** Whether a folder holds rows that a run can go on with. */
export function holdsRun(directory: string): boolean {
  return existsSync(join(directory, PLAN)) && existsSync(join(directory, ROWS));
}

/**
 * The files of a run in a directory that is there. What an earlier run left stays until this one has a cell. With `isResumed`, cells of the
 * earlier run that are whole and did not fail are kept; the plan may have more models, recipes and seeds than theirs.
 * @throws RESUME_SETTINGS when they were made with other settings; RESUME_ROWS when they cannot be read; later RESULTS_WRITE.
 */
export function openRunFolder(directory: string, record: RunRecord, isResumed: boolean): RunFolder {
  const path = (name: string): string => join(directory, name);
  const earlier = isResumed && holdsRun(directory) ? readWhole(directory) : undefined;
  if (earlier) refuseOthers(directory, PLAN, differences(earlier.record, record));
  const joined = earlier ? { ...record, commits: union(earlier.record.commits, record.commits) } : record;
  const [kept, logs] = [earlier?.rows ?? [], earlier?.logs ?? []];
  const done = new Set(kept.map(cellName));
  const rows = [...kept];
  let isStarted = false;
  const writing = (write: () => void): void =>
    writingTo(directory, ROWS, () => {
      if (!isStarted) {
        rmSync(path(TABLE), { force: true });
        replaceFile(path(PLAN), `${JSON.stringify(joined, undefined, 2)}\n`);
        replaceFile(path(LOGS), linesOf(logs));
        replaceFile(path(ROWS), linesOf(kept));
        isStarted = true;
      }
      write();
    });
  return {
    record: joined,
    kept,
    missing: cellsOf(record.plan).filter((cell) => !done.has(cellName(cell))),
    add: ({ model, recipe, seed, rows: own, logs: said }) =>
      writing(() => {
        const lines = said.filter(isBrief).map((one): LogLine => ({ model, recipe, seed, ...one }));
        // Logs without rows are dropped when a run goes on; rows without logs would be kept.
        if (lines.length > 0) appendFileSync(path(LOGS), linesOf(lines));
        appendFileSync(path(ROWS), linesOf(own));
        rows.push(...own);
      }),
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

/** @throws RUN_MISSING for a directory without results.jsonl, RESUME_ROWS when its files cannot be read. */
export function readRun(directory: string): RunFiles {
  const path = (name: string): string => join(directory, name);
  if (!existsSync(path(ROWS))) {
    throw new LowbitError('RUN_MISSING', `${directory}: has no ${ROWS}; give a directory that lowbit bench --out has written`);
  }
  return readingFrom(directory, () => ({
    record: existsSync(path(PLAN)) ? (JSON.parse(readFileSync(path(PLAN), 'utf8')) as RunRecord) : undefined,
    rows: readLines<BenchRow>(path(ROWS)).items.map(readRow),
    logs: existsSync(path(LOGS)) ? readLines<LogLine>(path(LOGS)).items : [],
  }));
}

/** Rows and logs of cells that are whole and did not fail. */
function readWhole(directory: string): RunFiles & { readonly record: RunRecord } {
  return readingFrom(directory, () => {
    const { record, rows, logs } = readRun(directory);
    if (!record) throw new Error(`no ${PLAN}`);
    const failed = new Set(rows.filter((row) => !isScore(row)).map(cellName));
    // A run that was killed while it wrote leaves a part of a line, and a part of its cell.
    const [last] = readLines(join(directory, ROWS)).isTorn ? rows.slice(-1) : [];
    if (last) failed.add(cellName(last));
    const whole = rows.filter((row) => !failed.has(cellName(row)));
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
  const others = ['models', 'recipes', 'seeds'];
  const fields = union(Object.keys(earlier.plan), Object.keys(now.plan)).filter((field) => !others.includes(field)) as (keyof BenchPlan)[];
  const changed: string[] = fields.filter((field) => !isDeepStrictEqual(earlier.plan[field], now.plan[field]));
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

/** Not the lines of a file that belongs beside a checkpoint. */
function isBrief({ record }: { readonly record: Readonly<Record<string, unknown>> }): boolean {
  return !Array.isArray(record['lines']);
}
