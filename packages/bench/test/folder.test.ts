// The folder of a benchmark: what is kept when a run is killed, goes on, or starts again.
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import type { Backend } from '@lowbit/core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildBuiltIn } from '../src/built-in.js';
import { type CellResult, engineIn, holdsRun, openRunFolder, type RunFolder, type RunRecord, readRun, recordOf } from '../src/folder.js';
import { makePlan, type PlanDraft, planDigest } from '../src/plan.js';
import type { BenchRow } from '../src/row.js';
import { failedRow, scoreRow } from './rows.js';

let directory: string;
let opened: RunFolder | undefined;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lowbit-bench-'));
  opened = undefined;
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));
let backend: Backend;
beforeAll(async () => {
  backend = await createOnnxBackend({ threads: 1 });
});
afterAll(() => backend.dispose());

const at = (name: string): string => join(directory, name);
const read = (name: string): string => readFileSync(at(name), 'utf8');
const step = (method: string, bits: number) => ({ name: `${method}-${bits}`, steps: [{ method, options: { bits } }] });
const draft: PlanDraft = {
  models: ['tiny'],
  recipes: [step('rtn', 2), step('gptq', 2)],
  evaluators: ['text'],
  seeds: [0, 1],
  calibration: { windows: 4 },
  heldOut: { windows: 2 },
};

/** The folder, when whoever had it before has left it. */
function open(of: RunRecord, isResumed: boolean): RunFolder {
  opened?.close();
  opened = openRunFolder(directory, of, isResumed);
  return opened;
}

/** Versions are looked up once. */
let made: RunRecord;
beforeAll(async () => {
  made = recordOf(await makePlan(draft, buildBuiltIn), backend);
});

async function record(changed: Partial<PlanDraft> = {}): Promise<RunRecord> {
  const plan = await makePlan({ ...draft, ...changed }, buildBuiltIn);
  return { ...made, plan, digest: planDigest(plan) };
}

function result(rows: readonly BenchRow[], logs: CellResult['logs'] = []): CellResult {
  const [{ model, recipe, seed }] = rows;
  return { model, recipe, seed, rows, logs };
}

const dense = result([scoreRow('dense', null, 12)]);
const rtn = result([scoreRow('rtn', 2, 20), scoreRow('rtn', 2, 1, { evaluator: 'kl' })], [{ path: 'a', record: { step: 1, loss: 2 } }]);
const gptq = result([scoreRow('gptq', 2, 15), scoreRow('gptq', 2, 0.5, { evaluator: 'kl' })], [{ path: 'b', record: { x: 1 } }]);

describe('openRunFolder', () => {
  it('writes nothing before a cell is done, and then its rows and logs at once', async () => {
    const folder = open(await record(), false);
    expect(holdsRun(directory)).toBe(false);
    expect(folder.missing).toHaveLength(5);
    folder.add(dense);
    folder.add(rtn);
    expect(readRun(directory)).toMatchObject({
      record: { digest: (await record()).digest, plan: { models: ['tiny'] }, backend: backend.fingerprint, commits: [null] },
      rows: [...dense.rows, ...rtn.rows],
      logs: [{ model: 'tiny', recipe: 'rtn-2', seed: 0, path: 'a', record: { step: 1, loss: 2 } }],
    });
    expect(existsSync(at('results.md'))).toBe(false);
  });

  it('leaves files of a run out of the logs', async () => {
    open(await record(), false).add({
      ...rtn,
      logs: [{ path: '', record: { file: 'x.jsonl', lines: [{}] } }, ...rtn.logs],
    });
    expect(readRun(directory).logs).toHaveLength(1);
  });

  it('goes on with cells that did not fail, drops what else there is of the others, and ends in the order of the plan', async () => {
    const first = open(await record(), false);
    first.add(gptq);
    first.add(dense);
    first.add(result([failedRow('rtn', 2, 'GROUP_SIZE')], rtn.logs));
    const second = open(await record(), true);
    expect(second.kept).toEqual([...gptq.rows, ...dense.rows]);
    expect(second.missing.map(({ recipe, seed }) => `${recipe} ${seed}`)).toEqual(['rtn-2 0', 'rtn-2 1', 'gptq-2 1']);
    expect(read('results.jsonl')).toContain('GROUP_SIZE');
    second.add(rtn);
    expect(read('results.jsonl')).not.toContain('GROUP_SIZE');
    expect(readRun(directory).logs.map(({ recipe }) => recipe)).toEqual(['gptq-2', 'rtn-2']);
    const rows = second.finish((all) => `${all.length} rows`);
    expect(rows).toEqual([...dense.rows, ...rtn.rows, ...gptq.rows]);
    expect(readRun(directory).rows).toEqual(rows);
    expect(read('results.md')).toBe('5 rows\n');
  });

  it('drops a cell that was cut off', async () => {
    const first = open(await record(), false);
    first.add(dense);
    first.add(rtn);
    const [, , last] = read('results.jsonl').split('\n');
    for (const torn of [last.slice(0, 40), last.slice(0, -1), '']) {
      writeFileSync(at('results.jsonl'), `${read('results.jsonl').split('\n').slice(0, 2).join('\n')}\n${torn}`);
      if (torn === '') appendFileSync(at('results.jsonl'), '{"mo');
      const { kept, missing } = open(await record(), true);
      expect(kept).toEqual(dense.rows);
      expect(missing).toHaveLength(4);
    }
  });

  it('goes on with a plan that has more models, recipes and seeds', async () => {
    open(await record(), false).add(gptq);
    const more = await record({ models: ['tiny', 'stories15M'], recipes: [step('rtn', 3), ...draft.recipes], seeds: [0, 1, 2] });
    const { kept, missing } = open(more, true);
    expect(kept).toEqual(gptq.rows);
    expect(missing).toHaveLength(19);
  });

  it('takes seeds in any order, before those that are there as well', async () => {
    open(await record({ seeds: [1] }), false).add(dense);
    const { kept, missing } = open(await record({ seeds: [0, 1] }), true);
    expect(kept).toEqual(dense.rows);
    expect(missing.map(({ recipe, seed }) => `${recipe} ${seed}`)).toEqual(['rtn-2 0', 'rtn-2 1', 'gptq-2 0', 'gptq-2 1']);
  });

  it('says which commits rows come from, and no others', async () => {
    const of = (rows: readonly BenchRow[], commit: string): CellResult => result(rows.map((row) => ({ ...row, commit })));
    const commits = () => readRun(directory).record?.commits;
    const first = open(await record(), false);
    first.add(of(dense.rows, 'a'));
    expect(commits()).toEqual(['a']);
    first.add(of(rtn.rows, 'b'));
    expect(commits()).toEqual(['a', 'b']);
    const second = open(await record(), true);
    second.finish(() => '');
    expect(commits()).toEqual(['a', 'b']);
  });

  it('runs what is not applicable no more', async () => {
    const row = failedRow('gptq', 2, 'NOT_APPLICABLE');
    open(await record(), false).add(result([row]));
    expect(open(await record(), true).kept).toEqual([row]);
  });

  it('runs cells again that are there twice, which others count once', async () => {
    open(await record(), false).add(dense);
    opened?.add(rtn);
    appendFileSync(at('results.jsonl'), read('results.jsonl').split('\n').slice(1, 3).join('\n').concat('\n'));
    expect(readRun(directory).rows).toEqual([...dense.rows, ...rtn.rows]);
    const { kept, missing } = open(await record(), true);
    expect(kept).toEqual(dense.rows);
    expect(missing.map(({ recipe, seed }) => `${recipe} ${seed}`)).toContain('rtn-2 0');
  });

  it('leaves no rows of another run beside its plan, nor its report, wherever it is cut off', async () => {
    open(await record(), false).add(gptq);
    writeFileSync(at('report.html'), 'of the other run');
    // The first file that is written after the rows of the other run were removed cannot be.
    mkdirSync(at('plan.json.new'));
    const folder = open(await record({ heldOut: { windows: 3 } }), false);
    expect(() => folder.add(gptq)).toThrow(expect.objectContaining({ code: 'RESULTS_WRITE' }) as Error);
    expect([existsSync(at('results.jsonl')), existsSync(at('report.html'))]).toEqual([false, false]);
    expect(holdsRun(directory)).toBe(false);
  });

  it('goes on when a model is added, and not when the files of one have changed', async () => {
    const weights = { toy: 'a' };
    open(await record({ models: ['toy'], weights }), false).add(gptq);
    const added = await record({ models: ['toy', 'more'], weights: { ...weights, more: 'b' } });
    expect(open(added, true).missing).toHaveLength(10);
    const changed = await record({ models: ['toy'], weights: { toy: 'c' } });
    expect(() => open(changed, true)).toThrow(
      expect.objectContaining({ code: 'RESUME_SETTINGS', message: expect.stringContaining('(weights of toy)') as string }) as Error,
    );
  });

  it.each<[string, Partial<PlanDraft>]>([
    ['file a.txt', { files: { 'a.txt': 'b' } }],
    ['engine', { engine: { backend: 'onnxruntime:cpu', threads: 2 } }],
    ['heldOut', { heldOut: { windows: 3 } }],
    ['calibration', { calibration: { windows: 4, source: { kind: 'self' } } }],
    ['evaluators', { evaluators: ['text', 'size'] }],
    ['task', { task: { source: 'sotu-era' } }],
    [
      "recipe 'gptq-2'",
      { recipes: [step('rtn', 2), { ...step('gptq', 2), steps: [{ method: 'gptq', options: { bits: 2, groupSize: 64 } }] }] },
    ],
    ['tiny, gptq-2, seed 1 left out', { seeds: [0] }],
    ['tiny, rtn-2, seed 0 left out', { recipes: [step('gptq', 2)] }],
  ])('refuses rows that were made with other settings: %s', async (difference, changed) => {
    open(await record(), false).add(gptq);
    const other = await record(changed);
    expect(() => open(other, true)).toThrow(
      expect.objectContaining({ code: 'RESUME_SETTINGS', message: expect.stringContaining(difference) as string }) as Error,
    );
    expect(readRun(directory).rows).toEqual(gptq.rows);
  });

  it('refuses rows of other versions of what computes, and of another number of threads', async () => {
    open(await record(), false).add(gptq);
    const now = await record();
    const two = await createOnnxBackend({ threads: 2 });
    for (const other of [{ ...now, versions: { node: '1' } }, recordOf(now.plan, two)]) {
      expect(() => open(other, true)).toThrow(expect.objectContaining({ code: 'RESUME_SETTINGS' }) as Error);
    }
    await two.dispose();
  });

  it('knows the engine of the run that is there', async () => {
    const engine = { backend: 'onnxruntime:cpu', threads: 3 } as const;
    open(await record({ engine }), false).add(gptq);
    expect(engineIn(directory)).toEqual(engine);
  });

  it('says what it cannot read', async () => {
    open(await record(), false).add(gptq);
    const now = await record();
    writeFileSync(at('results.jsonl'), 'no JSON\n');
    expect(() => open(now, true)).toThrow(expect.objectContaining({ code: 'RESUME_ROWS' }) as Error);
  });
});

describe('readRun', () => {
  it('reads rows alone, and errors that are not known', () => {
    const row = scoreRow('rtn', 2, 20, { stderr: Number.NaN });
    writeFileSync(at('results.jsonl'), `${JSON.stringify(row)}\n`);
    expect(readRun(directory)).toEqual({ record: undefined, rows: [row], logs: [] });
  });

  it('says where there is none', () => {
    expect(() => readRun(directory)).toThrow(expect.objectContaining({ code: 'RUN_MISSING' }) as Error);
  });
});
