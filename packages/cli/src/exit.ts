// From what was thrown to an exit code and a line for people.
import { LowbitError } from '@lowbit/core';
import { CommanderError } from 'commander';
import type { Terminal } from './terminal.js';

export const exitCodes = { ok: 0, failure: 1, badInput: 2, cancelled: 130 } as const;

/**
 * Prints an error and says how to exit. A deliberate error before the work began is the input's fault, and so is a full disk whenever it is
 * found; later ones are failures. What is no LowbitError is a bug and keeps its stack.
 */
export function reportError(error: unknown, isWorking: boolean, terminal: Terminal): number {
  // Commander has printed its message, or the help that was asked for.
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.badInput;
  if (error instanceof LowbitError) {
    terminal.err(`lowbit: ${error.message}\n`);
    if (error.code === 'ABORTED') return exitCodes.cancelled;
    return isWorking && error.code !== 'DISK_FULL' ? exitCodes.failure : exitCodes.badInput;
  }
  terminal.err(`lowbit: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return exitCodes.failure;
}
