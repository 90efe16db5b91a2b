// Tasks in local processes: every one has its outcome once, whatever happens to the processes.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runInProcesses } from '../../src/queue/local.js';
import { begunIn, isAlive, journalFile, readJournal, recordingHooks, type TestWork, taskModule, tasksOf, until } from './tasks.js';

let journal: string;
let remove: () => Promise<void>;
beforeEach(async () => {
  ({ journal, remove } = await journalFile());
});
afterEach(() => remove());

const work = (name: string, more: Partial<TestWork> = {}): TestWork => ({ journal, name, milliseconds: 20, ...more });

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
    expect(readJournal(journal).map(({ pid }) => isAlive(pid))).not.toContain(true);
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
