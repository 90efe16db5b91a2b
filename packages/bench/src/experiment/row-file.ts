// The folder of a run: rows are written as they come, so that a killed run keeps what it has, and a later one goes on from there.
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExperimentRow } from '@lowbit/core';
import { linesOf, readingFrom, readLines, replaceFile, writingTo } from '../json-lines.js';
import type { Figure } from './figure.js';
import type { ExperimentReport } from './report.js';
import { cellKey, isFailed } from './rows.js';
import { type ExperimentSettings, joinSettings } from './settings.js';

const SETTINGS = 'settings.json';
const ROWS = 'rows.jsonl';
const TABLE = 'table.md';
export const FIGURE = 'figure.svg';
const SPECIFICATION = 'figure.vl.json';

export interface ExperimentFolder {
  /** Rows that a resumed run need not compute again. */
  readonly kept: readonly ExperimentRow[];
  readonly settings: ExperimentSettings;
  add(rows: readonly ExperimentRow[]): void;
  finish(report: ExperimentReport, figure: Figure): void;
}

/** Whether a folder holds rows that a run can go on with. */
export function holdsRows(directory: string): boolean {
  return existsSync(join(directory, ROWS)) && existsSync(join(directory, SETTINGS));
}

/**
 * The files of a run in a directory that is there. What an earlier run left stays until this one has a row. With `isResumed`, cells of the
 * earlier run that did not fail are kept.
 * @throws RESUME_SETTINGS when they were made with other settings; RESUME_ROWS when they cannot be read; later RESULTS_WRITE.
 */
export function openExperimentFolder(directory: string, settings: ExperimentSettings, isResumed: boolean): ExperimentFolder {
  const path = (name: string): string => join(directory, name);
  const earlier = isResumed && holdsRows(directory) ? readEarlier(directory) : undefined;
  const joined = earlier ? joinSettings(earlier.settings, settings, directory) : settings;
  const kept = earlier?.rows ?? [];
  let isStarted = false;
  const start = (): void => {
    for (const name of [TABLE, FIGURE, SPECIFICATION]) rmSync(path(name), { force: true });
    replaceFile(path(SETTINGS), `${JSON.stringify(joined, undefined, 2)}\n`);
    replaceFile(path(ROWS), linesOf(kept));
    isStarted = true;
  };
  const writing = (write: () => void): void =>
    writingTo(directory, ROWS, () => {
      if (!isStarted) start();
      write();
    });
  return {
    kept,
    settings: joined,
    add: (rows) => writing(() => appendFileSync(path(ROWS), linesOf(rows))),
    finish: (report, { svg, specification }) =>
      writing(() => {
        writeFileSync(path(TABLE), `${report.document}\n`);
        writeFileSync(path(FIGURE), svg);
        writeFileSync(path(SPECIFICATION), `${JSON.stringify(specification, undefined, 2)}\n`);
      }),
  };
}

function readEarlier(directory: string): { settings: ExperimentSettings; rows: ExperimentRow[] } {
  return readingFrom(directory, () => {
    const settings = JSON.parse(readFileSync(join(directory, SETTINGS), 'utf8')) as ExperimentSettings;
    // A run that was killed while it wrote leaves a part of a line, and maybe a part of its cell.
    const { items: rows, isTorn } = readLines<ExperimentRow>(join(directory, ROWS));
    const last = rows.at(-1);
    const torn = isTorn && last !== undefined ? cellKey(last) : undefined;
    const failed = new Set(rows.filter(isFailed).map(cellKey));
    return { settings, rows: rows.filter((row) => cellKey(row) !== torn && !failed.has(cellKey(row))) };
  });
}
