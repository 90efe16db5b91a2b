// The folder of advice: trials are written as they come, so that a cancelled run keeps what it found out.
import { appendFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LowbitError, type StepReference } from '@lowbit/core';
import type { DamageReport, Trial } from './strategy.js';

const TRIALS = 'trials.jsonl';
const DAMAGES = 'damages.jsonl';
const REPORT = 'advice.md';
/** A recipe as `lowbit quantize --recipe` reads it. */
export const ADVICE_RECIPE = 'recipe.json';

export interface AdviceFolder {
  trial(trial: Trial): void;
  damages(report: DamageReport): void;
  /** The report as Markdown, and the steps of the best recipe, if there is one. */
  finish(report: string, steps: readonly StepReference[] | undefined): void;
}

/** Files in a directory that is there. What an earlier run left stays until this one has a trial. Its functions throw RESULTS_WRITE. */
export function openAdviceFolder(directory: string): AdviceFolder {
  const path = (name: string): string => join(directory, name);
  let isStarted = false;
  const writing = (write: () => void): void => {
    try {
      if (!isStarted) for (const name of [TRIALS, DAMAGES, REPORT, ADVICE_RECIPE]) rmSync(path(name), { force: true });
      isStarted = true;
      write();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new LowbitError('RESULTS_WRITE', `${directory}: ${reason}; trials so far are in ${TRIALS}`, { cause: error });
    }
  };
  return {
    trial: (trial) => writing(() => appendFileSync(path(TRIALS), `${JSON.stringify(trial)}\n`)),
    damages: (report) => writing(() => appendFileSync(path(DAMAGES), `${JSON.stringify(report)}\n`)),
    finish: (report, steps) =>
      writing(() => {
        writeFileSync(path(REPORT), report);
        if (steps) writeFileSync(path(ADVICE_RECIPE), recipeJson(steps));
      }),
  };
}

function recipeJson(steps: readonly StepReference[]): string {
  const entries = steps.map(({ method, options: { targets, overrides, ...options } = {} }) => ({
    method,
    options,
    ...(targets !== undefined && { targets }),
    ...(overrides !== undefined && { overrides }),
  }));
  return `${JSON.stringify(entries, undefined, 2)}\n`;
}
