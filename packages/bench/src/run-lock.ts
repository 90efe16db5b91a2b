// One process at a time writes into the folder of a run: a file there says which. That of a process which is gone binds nobody.
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { LowbitError } from '@lowbit/core';

const LOCK = 'run.lock';

/** Who writes. */
interface Holder {
  readonly pid: number;
  readonly host: string;
  /** When the process began, in the system's own count: another one may have its number since. Undefined where the system does not say. */
  readonly started?: string | undefined;
}

export interface RunLock {
  release(): void;
}

/** Takes the folder for this process. @throws RUN_LOCKED while another one writes there, or this one does; RESULTS_WRITE. */
export function lockRun(directory: string): RunLock {
  const path = join(directory, LOCK);
  const own = `${JSON.stringify({ pid: process.pid, host: hostname(), started: stateOf(process.pid)?.started } satisfies Holder)}\n`;
  dropLostLock(directory);
  try {
    writeFileSync(path, own, { flag: 'wx' });
  } catch (error) {
    if (isCode(error, 'EEXIST')) throw locked(path, read(path));
    const reason = error instanceof Error ? error.message : String(error);
    throw new LowbitError('RESULTS_WRITE', `${directory}: ${reason}; choose another output directory`, { cause: error });
  }
  return {
    release() {
      if (read(path) === own) rmSync(path, { force: true });
    },
  };
}

/** Removes what a process that is gone has left. @throws RUN_LOCKED when it is still there. */
export function dropLostLock(directory: string): void {
  const path = join(directory, LOCK);
  const text = read(path);
  if (text === undefined) return;
  if (!isLost(text)) throw locked(path, text);
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if (isCode(error, 'ENOENT')) return;
    throw error;
  }
  // Another process may have found it lost as well, and have taken the folder since it was read.
  if (read(aside) === text) rmSync(aside);
  else renameSync(aside, path);
}

function locked(path: string, text: string | undefined): LowbitError {
  const holder = text === undefined ? undefined : holderIn(text);
  const who = holder ? `process ${holder.pid} on ${holder.host}` : 'another process';
  const remedy = `wait for it, or choose another output directory; if it is gone, remove ${path}`;
  return new LowbitError('RUN_LOCKED', `${path}: ${who} writes into this directory; ${remedy}`);
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (isCode(error, 'ENOENT') || isCode(error, 'ENOTDIR')) return undefined;
    throw error;
  }
}

function holderIn(text: string): Holder | undefined {
  try {
    const { pid, host, started } = JSON.parse(text) as Partial<Holder>;
    return typeof pid === 'number' && typeof host === 'string' ? { pid, host, started } : undefined;
  } catch {
    return undefined;
  }
}

/** Of another machine nothing is known. */
function isLost(text: string): boolean {
  const holder = holderIn(text);
  if (!holder || holder.host !== hostname()) return false;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    return isCode(error, 'ESRCH');
  }
  const now = stateOf(holder.pid);
  if (!now) return false;
  return now.isZombie || (holder.started !== undefined && holder.started !== now.started);
}

/** What Linux says of a process (proc(5), stat: fields 3 and 22, behind a name that may have any character in it). */
function stateOf(pid: number): { readonly isZombie: boolean; readonly started: string } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { isZombie: fields[0] === 'Z', started: fields[19] };
  } catch {
    return undefined;
  }
}

function isCode(error: unknown, code: string): boolean {
  return (error as NodeJS.ErrnoException).code === code;
}
