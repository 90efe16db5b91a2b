// The log of a run as lines of JSON: the run, its steps, and what they led to.
import { LowbitError } from '@lowbit/core';
import { parseTrajectory, type StepRecord, type Trajectory } from './trajectory.js';

/** File name of a log beside the checkpoint that it led to. */
export const LOG_FILE = 'quzo-log.jsonl';

export interface RunLog {
  readonly trajectory: Trajectory;
  /** Digest of the parameters after the last step. */
  readonly end: string;
}

/** A log as it is written, a line for each. The last line says where it ends, so that a part of a log is told from a whole one. */
export function logLines({ trajectory: { records, ...header }, end }: RunLog): readonly Readonly<Record<string, unknown>>[] {
  return [header, ...records, { steps: records.length, end }];
}

/**
 * The inverse, from the text of a file.
 * @throws REPLAY_LOG naming the line that is damaged or missing.
 */
export function parseLog(text: string): RunLog {
  const [header, ...rest] = text.trimEnd().split('\n').map(parseLine);
  const last = rest.pop();
  const records = rest.map((value, i) => recordOf(value, i));
  if (typeof last?.['end'] !== 'string' || last['steps'] !== records.length) {
    const known = last?.['steps'] === undefined ? 'the line that ends a log is missing' : `${last['steps']} steps were written`;
    throw damaged(rest.length + 2, `${known}, ${records.length} are there`);
  }
  return { trajectory: parseTrajectory({ ...header, records }), end: last['end'] };
}

type Line = Readonly<Record<string, unknown>>;

function parseLine(text: string, index: number): Line {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Line;
  } catch {
    // Said below, as of a value that is no object.
  }
  throw damaged(index + 1, 'not a JSON object');
}

/** @param index of the step, counted from 0; its line follows that of the run. */
function recordOf({ step, mu, ...others }: Line, index: number): StepRecord {
  const isWhole = Array.isArray(mu) && mu.every((slope) => Number.isFinite(slope)) && Object.keys(others).length === 0;
  if (step === index + 1 && isWhole) return { step, mu };
  throw damaged(index + 2, `not the record of step ${index + 1}`);
}

function damaged(line: number, why: string): LowbitError {
  return new LowbitError(
    'REPLAY_LOG',
    `line ${line}: ${why}; the log is damaged or no log of quzo: take the one that was written with the model`,
  );
}
