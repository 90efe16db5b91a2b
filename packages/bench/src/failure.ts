// What was thrown, as a row or a report can hold it.
import { LowbitError, throwIfAborted } from '@lowbit/core';

/** Being cancelled is no result of a cell. */
export function rethrowAbort(error: unknown, signal: AbortSignal | undefined): void {
  throwIfAborted(signal);
  if (error instanceof LowbitError && error.code === 'ABORTED') throw error;
}

export function describeError(error: unknown): { code: string; message: string } {
  if (error instanceof LowbitError) return { code: error.code, message: error.message };
  return { code: 'INTERNAL', message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}
