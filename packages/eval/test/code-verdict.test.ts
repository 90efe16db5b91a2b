// How what is known of a process becomes a verdict, and limits that cannot be held. Nothing is run here.
import { describe, expect, it } from 'vitest';
import type { Collected } from '../src/generate-tasks/code/collect.js';
import { verdictOf } from '../src/generate-tasks/code/verdict.js';
import { codeLimits, openCodeSandbox } from '../src/index.js';

const KEY = 'k'.repeat(32);
const limits = { ...codeLimits, seconds: 3 };
const passed = { key: KEY, outcome: 'passed', seconds: 0.1 };

function verdict(last: object | undefined, ended: Partial<Collected> = {}) {
  const status = `"ready"\n${last === undefined ? '' : JSON.stringify(last)}`;
  return verdictOf({ stopped: undefined, status, output: '', exit: 'status 0', ...ended }, KEY, limits, 60);
}

describe('verdictOf', () => {
  it('believes a guard that knows the key, even where the clock of a busy caller came first', () => {
    expect(verdict(passed)).toEqual({ isPassed: true, reason: 'passed', detail: '' });
    expect(verdict(passed, { stopped: 'time', exit: 'SIGKILL' })).toEqual({ isPassed: true, reason: 'passed', detail: '' });
    const failed = { ...passed, outcome: 'failed', error: 'AssertionError', message: 'no' };
    expect(verdict(failed, { stopped: 'time' })).toEqual({ isPassed: false, reason: 'failed', detail: 'AssertionError: no' });
  });

  it.each([
    ['no verdict', undefined],
    ['a verdict without the key', { ...passed, key: '' }],
    ['more time than allowed', { ...passed, seconds: 3.1 }],
    ['no time', { ...passed, seconds: undefined }],
  ])('is a timeout with %s when time is over', (_what, last) => {
    expect(verdict(last, { stopped: 'time' })).toEqual({ isPassed: false, reason: 'timeout', detail: 'ran longer than 3 s' });
  });

  it('is a timeout where the caller was too busy to notice', () => {
    expect(verdict({ ...passed, seconds: 3.1 })).toMatchObject({ isPassed: false, reason: 'timeout' });
  });

  it('is a failure without a verdict, or with too much output', () => {
    expect(verdict(undefined)).toMatchObject({ isPassed: false, reason: 'exited' });
    expect(verdict({ ...passed, key: 'guessed' })).toMatchObject({ isPassed: false, reason: 'exited' });
    expect(verdict(passed, { stopped: 'output' })).toMatchObject({ isPassed: false, reason: 'output' });
    expect(verdict({ ...passed, outcome: 'memory' })).toMatchObject({ isPassed: false, reason: 'memory' });
  });

  it.each([
    ['the interpreter did not start within 60 s', { stopped: 'start', status: '' }],
    ['no mounts', { status: '{"refused": "no mounts"}' }],
    ['unshare: not permitted', { status: '', output: 'unshare: not permitted\n' }],
    ['it ended with status 1', { status: '', exit: 'status 1' }],
  ] as const)('SANDBOX_REFUSED: %s', (said, ended) => {
    expect(() => verdict(undefined, ended)).toThrow(
      expect.objectContaining({ code: 'SANDBOX_REFUSED', message: expect.stringContaining(said) as string }),
    );
  });
});

describe('limits', () => {
  it.each([
    { seconds: 0 },
    { seconds: -1 },
    { seconds: Number.NaN },
    { seconds: 1e9 },
    { memoryMiB: 0.5 },
    { memoryMiB: 0 },
    { diskMiB: 2 ** 40 },
    { outputKiB: Number.POSITIVE_INFINITY },
  ])('CODE_LIMITS for %j', async (wrong) => {
    const message = expect.stringContaining(Object.keys(wrong)[0]) as string;
    await expect(openCodeSandbox({ ...codeLimits, ...wrong })).rejects.toMatchObject({ code: 'CODE_LIMITS', message });
  });
});
