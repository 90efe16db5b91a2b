// The lock on the folder of a run: one process at a time, and those that are gone do not count.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openRunFolder, type RunRecord } from '../src/folder.js';
import { dropLostLock, lockRun } from '../src/run-lock.js';

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lowbit-lock-'));
  path = join(directory, 'run.lock');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const locked = expect.objectContaining({ code: 'RUN_LOCKED', message: expect.stringContaining('run.lock') as string }) as Error;
const own = (): { pid: number; host: string; started?: string } => JSON.parse(readFileSync(path, 'utf8'));

describe('lockRun', () => {
  it('lets one in, and the next when it has left', () => {
    const lock = lockRun(directory);
    expect(own()).toMatchObject({ pid: process.pid, host: hostname() });
    expect(() => lockRun(directory)).toThrow(locked);
    expect(() => dropLostLock(directory)).toThrow(locked);
    lock.release();
    expect(existsSync(path)).toBe(false);
    lockRun(directory).release();
  });

  it('lets nobody in while another process is there', async () => {
    const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
    await once(other, 'spawn');
    writeFileSync(path, JSON.stringify({ pid: other.pid, host: hostname() }));
    expect(() => lockRun(directory)).toThrow(
      expect.objectContaining({ message: expect.stringContaining(`process ${other.pid}`) as string }),
    );
    const ended = once(other, 'close');
    other.kill('SIGKILL');
    await ended;
    lockRun(directory).release();
  });

  it('takes over from a process that is gone', () => {
    const { pid } = spawnSync(process.execPath, ['-e', '']);
    writeFileSync(path, JSON.stringify({ pid, host: hostname() }));
    const lock = lockRun(directory);
    expect(own().pid).toBe(process.pid);
    lock.release();
  });

  it.skipIf(process.platform !== 'linux')('takes over from a process whose number another one has', () => {
    lockRun(directory);
    const { started, ...rest } = own();
    expect(started).toMatch(/^\d+$/);
    writeFileSync(path, JSON.stringify({ ...rest, started: `${started}0` }));
    lockRun(directory).release();
    expect(existsSync(path)).toBe(false);
  });

  it.each(['', '{', '{"pid":"1"}', '{"pid":1,"host":"another machine"}'])('does not guess who wrote %j', (text) => {
    writeFileSync(path, text);
    expect(() => lockRun(directory)).toThrow(locked);
    expect(readFileSync(path, 'utf8')).toBe(text);
  });

  it('does not remove the lock of whoever took over', () => {
    const lock = lockRun(directory);
    writeFileSync(path, '{"pid":1,"host":"another machine"}');
    lock.release();
    expect(existsSync(path)).toBe(true);
  });
});

describe('openRunFolder', () => {
  const record: RunRecord = {
    ...{ digest: '', versions: {}, backend: '', commits: [] },
    plan: { models: ['tiny'], recipes: [], evaluators: [], seeds: [0], calibration: { windows: 1 }, heldOut: { windows: 1 } },
  };

  it('is one at a time', () => {
    const first = openRunFolder(directory, record, false);
    for (const isResumed of [true, false]) expect(() => openRunFolder(directory, record, isResumed)).toThrow(locked);
    first.close();
    openRunFolder(directory, record, true).close();
  });

  it('leaves the folder when it cannot be opened', () => {
    writeFileSync(join(directory, 'plan.json'), '{');
    writeFileSync(join(directory, 'results.jsonl'), '');
    expect(() => openRunFolder(directory, record, true)).toThrow(expect.objectContaining({ code: 'RESUME_ROWS' }) as Error);
    expect(existsSync(path)).toBe(false);
  });
});
