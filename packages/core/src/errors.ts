// Every error lowbit throws on purpose: a stable code for programs, and a message that says where, what and what to do.

/**
 * An error with a stable `code`. The message reads `CODE: where: what; what to do`.
 * Anything else that is thrown is a bug.
 */
export class LowbitError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(`${code}: ${message}`, options);
    this.name = 'LowbitError';
    this.code = code;
  }
}

/** Throws an ABORTED error when the signal has been aborted. Long loops call it between evaluations. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new LowbitError('ABORTED', 'the run was cancelled', { cause: signal.reason });
}
