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

/** As a method logs it: a file beside the checkpoint. */
export function logRecord(log: RunLog): Readonly<Record<string, unknown>> {
  return { file: LOG_FILE, lines: logLines(log) };
}

/**
 * The inverse of `logLines`, from the text of a file; `where` names it in errors.
 * @throws REPLAY_LOG naming the line that is damaged or missing.
 */
export function parseLog(text: string, where: string): RunLog {
  const damaged = (line: number, why: string): LowbitError =>
    new LowbitError('REPLAY_LOG', `${where}: line ${line}: ${why}; take the undamaged ${LOG_FILE} that was written with the model`);
  const lines = text
    .trimEnd()
    .split('\n')
    .map((line, i) => objectIn(line) ?? fail(damaged(i + 1, 'is no JSON object')));
  const [header, last] = [lines[0], lines.length > 1 ? lines[lines.length - 1] : undefined];
  const records = lines.slice(1, -1).map((line, i) => recordIn(line, i + 1) ?? fail(damaged(i + 2, `is not the record of step ${i + 1}`)));
  if (typeof last?.['end'] !== 'string') throw damaged(lines.length + 1, 'the line that ends a log is missing');
  if (last['steps'] !== records.length) throw damaged(lines.length, `the log has ${records.length} steps of ${String(last['steps'])}`);
  return { trajectory: parseTrajectory({ ...header, records }), end: last['end'] };
}

type Line = Readonly<Record<string, unknown>>;

function fail(error: LowbitError): never {
  throw error;
}

function objectIn(text: string): Line | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Line) : undefined;
  } catch {
    return undefined;
  }
}

function recordIn({ step, mu, ...others }: Line, expected: number): StepRecord | undefined {
  const isWhole = Array.isArray(mu) && mu.every((slope) => Number.isFinite(slope)) && Object.keys(others).length === 0;
  return step === expected && isWhole ? { step, mu } : undefined;
}
