// What became of every Linear of a run, folded from its events: one line each, for the file beside the checkpoint.
import type { RunEvent } from '@lowbit/core';

/** Name of the file. */
export const LAYER_TABLE = 'layers.csv';

type LinearDone = Extract<RunEvent, { type: 'linear-done' }>;

/** What was said of a Linear besides. */
interface Said {
  readonly record: Readonly<Record<string, unknown>>;
  readonly warnings: readonly string[];
}

type Cell = string | number | undefined;

const COLUMNS = [
  'step',
  'method',
  'path',
  // What the method minimised, as far as it says; then relative output errors, of the Linear and of rounding to nearest.
  'loss',
  'relative_error',
  'nearest_error',
  'dampening',
  'dead_inputs',
  'tokens',
  'bits_per_weight',
  'seconds',
  // Codes, separated by spaces.
  'warnings',
] as const;

export interface LayerTable {
  event(event: RunEvent): void;
  /** CSV with a header line, in the order of the run; undefined as long as no Linear is done. */
  text(): string | undefined;
}

export function createLayerTable(): LayerTable {
  const methods = new Map<number, string>();
  const said = new Map<string, Said>();
  const done = new Map<string, LinearDone>();
  const before = (step: number, path: string): Said => said.get(`${step} ${path}`) ?? { record: {}, warnings: [] };
  return {
    event(event) {
      if (event.type === 'step-start') methods.set(event.step, event.method);
      if (event.type === 'log' || event.type === 'warning') {
        const { record, warnings } = before(event.step, event.path);
        const more =
          event.type === 'log'
            ? { record: { ...record, ...event.record }, warnings }
            : { record, warnings: [...new Set([...warnings, event.code])] };
        said.set(`${event.step} ${event.path}`, more);
      }
      if (event.type !== 'linear-done') return;
      const key = `${event.step} ${event.path}`;
      done.set(key, after(done.get(key), event));
    },
    text() {
      if (done.size === 0) return undefined;
      const lines = [...done.values()].map((event) => lineOf(event, methods.get(event.step), before(event.step, event.path)));
      return [COLUMNS.join(','), ...lines, ''].join('\n');
    },
  };
}

/** What a later stage of the step says of a Linear stands; what is not of its business is as it was said before. */
function after(earlier: LinearDone | undefined, now: LinearDone): LinearDone {
  if (!earlier) return now;
  return {
    ...now,
    nearestError: now.nearestError ?? earlier.nearestError,
    tokens: now.tokens ?? earlier.tokens,
    milliseconds: earlier.milliseconds + now.milliseconds,
  };
}

function lineOf(event: LinearDone, method: string | undefined, { record, warnings }: Said): string {
  const { step, path, error, nearestError, tokens, bitsPerWeight, milliseconds } = event;
  const logged = (name: string): number | undefined => (typeof record[name] === 'number' ? record[name] : undefined);
  const row: Record<(typeof COLUMNS)[number], Cell> = {
    step,
    method,
    path,
    loss: logged('loss'),
    relative_error: error,
    nearest_error: nearestError,
    dampening: logged('dampening'),
    dead_inputs: logged('deadInputs'),
    tokens,
    bits_per_weight: bitsPerWeight,
    seconds: Math.round(milliseconds) / 1000,
    warnings: warnings.join(' '),
  };
  return COLUMNS.map((name) => cell(row[name])).join(',');
}

/** As RFC 4180 has it. */
function cell(value: Cell): string {
  const text = String(value ?? '');
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
