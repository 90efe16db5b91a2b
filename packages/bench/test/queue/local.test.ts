// Tasks in local processes: every one has its outcome once, whatever happens to the processes.
import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { runInProcesses } from '../../src/queue/local.js';
import { openTaskProcess, type TaskModule } from '../../src/queue/process.js';
import { begunIn, isAlive, journalFile, readJournal, recordingHooks, type TestWork, taskModule, tasksOf, until } from './tasks.js';

// Several processes start one after another, each of which reads sources: a busy machine takes its time.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 300_000 });

let journal: string;
let remove: () => Promise<void>;
beforeEach(async () => {
  ({ journal, remove } = await journalFile());
});
afterEach(() => remove());

const work = (name: string, more: Partial<TestWork> = {}): TestWork => ({ journal, name, milliseconds: 20, ...more });

/** A module that Node runs as it is, and the name of a file beside it that is its argument. */
function plainModule(code: string): TaskModule & { readonly arguments: readonly [string] } {
  const path = `${journal}.mjs`;
  writeFileSync(path, code);
  return { path, arguments: [`${journal}.argument`], nodeOptions: [] };
}

/** One that cannot open what tasks need. */
function refusing(): TaskModule {
  const failure = { code: 'BACKEND_UNAVAILABLE', message: 'BACKEND_UNAVAILABLE: no driver' };
  return plainModule(`process.on('message', () => process.send({ failure: ${JSON.stringify(failure)} }));`);
}

describe('runInProcesses', () => {
  it('gives every task one outcome: results, errors by their codes, lost processes after three tries', async () => {
    const hooks = recordingHooks();
    const works = [work('a'), work('b', { dies: 1 }), work('c', { dies: 3 }), work('d', { throws: 1 }), work('e')];
    await runInProcesses(tasksOf(works), { module: taskModule, workers: 2 }, hooks);
    expect([...hooks.results].sort()).toEqual(['a', 'b', 'e']);
    expect(hooks.failures).toEqual({
      c: { code: 'PROCESS_LOST', message: expect.stringMatching(/^PROCESS_LOST: c: .*SIGKILL.*c gives up$/) },
      d: { code: 'TEST_FAILURE', message: 'TEST_FAILURE: d: thrown on attempt 1' },
    });
    expect(['a', 'b', 'c', 'd', 'e'].map((name) => begunIn(journal, name))).toEqual([1, 2, 3, 1, 1]);
    expect(hooks.notes).toHaveLength(4);
    // Killed, they are gone a moment later.
    await until(() => readJournal(journal).every(({ pid }) => !isAlive(pid)));
  });

  it('tries again when a process does not start', async () => {
    const hooks = recordingHooks();
    const module = plainModule(`
      import { existsSync, rmSync } from 'node:fs';
      const once = process.argv[2];
      process.on('message', () => {
        if (!existsSync(once)) return process.send({ result: 'a' });
        rmSync(once);
        process.exit(3);
      });`);
    writeFileSync(module.arguments[0], '');
    await runInProcesses(tasksOf([work('a')]), { module, workers: 1 }, hooks);
    expect(hooks.results).toEqual(['a']);
    expect(hooks.notes).toEqual([expect.stringMatching(/^PROCESS_START: a: .*PROCESS_LOST.*ended with code 3/)]);
  });

  it('says what keeps processes from starting', async () => {
    const hooks = recordingHooks();
    await runInProcesses(tasksOf([work('a')]), { module: refusing(), workers: 1 }, hooks);
    const message = expect.stringContaining('BACKEND_UNAVAILABLE: no driver') as string;
    expect(hooks.failures).toEqual({ a: { code: 'PROCESS_START', message } });
    expect(hooks.notes).toHaveLength(3);
  });

  it('stops its processes when it is cancelled', async () => {
    const hooks = recordingHooks();
    const abort = new AbortController();
    const running = runInProcesses(
      tasksOf([work('a', { milliseconds: 60_000 })]),
      { module: taskModule, workers: 2, signal: abort.signal },
      hooks,
    );
    const ended = expect(running).rejects.toMatchObject({ code: 'ABORTED' });
    await until(() => readJournal(journal).length > 0);
    abort.abort();
    await ended;
    expect(hooks.results).toEqual([]);
    expect(hooks.failures).toEqual({});
    await until(() => !isAlive(readJournal(journal)[0].pid));
  });

  it('stops when a result cannot be taken', async () => {
    const hooks = recordingHooks();
    const full = new Error('no space');
    const running = runInProcesses(
      tasksOf([work('a'), work('b', { milliseconds: 60_000 })]),
      { module: taskModule, workers: 2 },
      {
        ...hooks,
        onResult: () => {
          throw full;
        },
      },
    );
    await expect(running).rejects.toBe(full);
    expect(hooks.failures).toEqual({});
  });
});

describe('openTaskProcess', () => {
  it('says by its code why a process cannot be opened', async () => {
    const tasks = openTaskProcess(refusing());
    await expect(tasks.open()).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
    tasks.close();
  });

  it('opens one process, which does the tasks', async () => {
    const tasks = openTaskProcess<TestWork, string>(taskModule);
    await tasks.open();
    await tasks.open();
    for (const task of tasksOf([work('a'), work('b')])) await tasks.run(task);
    expect(new Set(readJournal(journal).map(({ pid }) => pid)).size).toBe(1);
    tasks.close();
  });
});
