// How a program ended: read from what its guard has said, and from how the process came to its end.
import { LowbitError } from '@lowbit/core';
import type { Collected } from './collect.js';
import type { CodeLimits } from './limits.js';

export interface Verdict {
  /** Whether it ran to its end without an error. */
  readonly isPassed: boolean;
  readonly reason: 'passed' | 'failed' | 'timeout' | 'memory' | 'output' | 'exited';
  /** For people: 'AssertionError: …', 'ran longer than 3 s', … */
  readonly detail: string;
}

/**
 * Of a program whose guard was told `key`: what does not repeat it, the program has said itself. `startSeconds` is how long the guard had to begin.
 * @throws SANDBOX_REFUSED when the program was never let in.
 */
export function verdictOf(ended: Collected, key: string, limits: CodeLimits, startSeconds: number): Verdict {
  const { stopped, status, output, exit } = ended;
  const { seconds, memoryMiB, outputKiB } = limits;
  if (stopped === 'start') throw sandboxRefused(`the interpreter did not start within ${startSeconds} s`);
  const [first, last] = status.trim().split('\n').map(parsed);
  if (first !== 'ready') {
    const said = isObject(first) && typeof first.refused === 'string' ? first.refused : output.trim();
    throw sandboxRefused(said === '' ? `it ended with ${exit}` : said);
  }
  const failure = (reason: Verdict['reason'], detail: string): Verdict => ({ isPassed: false, reason, detail });
  const late = failure('timeout', `ran longer than ${seconds} s`);
  if (stopped === 'output') return failure('output', `printed more than ${outputKiB} KiB`);
  if (!isObject(last) || last.key !== key) return stopped === 'time' ? late : failure('exited', `ended with ${exit} before its tests did`);
  // The guard's clock decides: the one out here is late where this process has other work, and then strikes before the verdict is read.
  if (!(Number(last.seconds) <= seconds)) return late;
  if (last.outcome === 'passed') return { isPassed: true, reason: 'passed', detail: '' };
  if (last.outcome === 'memory') return failure('memory', `needed more than ${memoryMiB} MiB`);
  return failure('failed', `${last.error}: ${last.message}`);
}

export function sandboxRefused(why: string): LowbitError {
  return new LowbitError(
    'SANDBOX_REFUSED',
    `code sandbox: programs cannot be shut in here: ${why}; they are not run without. Containers often forbid user namespaces: run on the machine itself or in a virtual one`,
  );
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
