// From what was thrown to an exit code and a line for people.
import { LowbitError } from '@lowbit/core';
import type { Terminal } from './terminal.js';

export const exitCodes = { ok: 0, failure: 1, badInput: 2, cancelled: 130 } as const;

/** Whether a command was still reading its input or already at work. */
export type Phase = 'prepare' | 'run';

/**
 * Prints an error and says how to exit. Deliberate errors before the work began are the input's fault; anything else that is thrown is
 * a failure, and what is no LowbitError is a bug and keeps its stack.
 */
export function reportError(error: unknown, phase: Phase, terminal: Terminal): number {
  if (error instanceof LowbitError) {
    terminal.err(`lowbit: ${error.message}\n`);
    if (error.code === 'ABORTED') return exitCodes.cancelled;
    return phase === 'prepare' ? exitCodes.badInput : exitCodes.failure;
  }
  terminal.err(`lowbit: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return exitCodes.failure;
}
