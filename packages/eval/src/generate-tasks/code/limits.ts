// What a program that a model has written may use.
import { LowbitError } from '@lowbit/core';

export interface CodeLimits {
  /** Of wall time, from when it begins; an hour at most. */
  readonly seconds: number;
  /** Of address space, the interpreter's included. Like those below a whole number. */
  readonly memoryMiB: number;
  /** Of its one writable directory, which lies in memory. */
  readonly diskMiB: number;
  /** Of what it prints. */
  readonly outputKiB: number;
}

/** Three seconds are those of HumanEval's own judge. */
export const codeLimits: CodeLimits = { seconds: 3, memoryMiB: 1024, diskMiB: 16, outputKiB: 1024 };

/** A timer counts no longer than 24 days, and the kernel in 64 bits. */
const MOST = { seconds: 3600, size: 2 ** 30 };

/** @throws CODE_LIMITS for what neither a clock nor the kernel takes. */
export function checkLimits({ seconds, ...sizes }: CodeLimits): void {
  const refuse = (name: string, value: number, expected: string): never => {
    throw new LowbitError('CODE_LIMITS', `code sandbox: ${name} must be ${expected}, got ${value}`);
  };
  if (!(seconds > 0 && seconds <= MOST.seconds)) refuse('seconds', seconds, `above 0 and at most ${MOST.seconds}`);
  for (const [name, value] of Object.entries(sizes)) {
    const isSize = Number.isInteger(value) && value > 0 && value <= MOST.size;
    if (!isSize) refuse(name, value, `a whole number from 1 to ${MOST.size}`);
  }
}
