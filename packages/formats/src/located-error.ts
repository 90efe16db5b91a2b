// Adds to an error where it happened, for code that works on one tensor and does not know its name.
import { LowbitError } from '@lowbit/core';

/** Runs `work`; a LowbitError that it throws gets `where` in front of its message and keeps its code. */
export async function located<T>(where: string, work: () => Promise<T> | T): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof LowbitError)) throw cause;
    throw new LowbitError(cause.code, `${where}: ${cause.message.slice(cause.code.length + 2)}`, { cause });
  }
}
