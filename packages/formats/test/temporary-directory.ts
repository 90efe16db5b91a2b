// A fresh directory for each test of a file, removed after it.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';

/** Registers the hooks; the returned function gives the path of a name in the current test's directory. */
export function temporaryDirectory(): (...names: string[]) => string {
  let directory = '';
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lowbit-formats-'));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));
  return (...names) => join(directory, ...names);
}
