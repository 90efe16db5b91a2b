// The folder of a benchmark: what is kept when a run is killed, goes on, or starts again.
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import type { Backend } from '@lowbit/core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildBuiltIn } from '../src/built-in.js';
import { type CellResult, holdsRun, openRunFolder, type RunRecord, readRun, recordOf } from '../src/folder.js';
import { makePlan, type PlanDraft } from '../src/plan.js';
import type { BenchRow } from '../src/row.js';
import { failedRow, scoreRow } from './rows.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lowbit-bench-'));
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

async function record(changed: Partial<PlanDraft> = {}): Promise<RunRecord> {
  return recordOf(await makePlan({ ...draft, ...changed }, buildBuiltIn), backend);
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
    const folder = openRunFolder(directory, await record(), false);
    expect(holdsRun(directory)).toBe(false);
    expect(folder.missing).toHaveLength(5);
    folder.add(dense);
    folder.add(rtn);
    expect(readRun(directory)).toMatchObject({
      record: { digest: folder.record.digest, plan: { models: ['tiny'] }, backend: backend.name, commits: [expect.anything()] },
      rows: [...dense.rows, ...rtn.rows],
      logs: [{ model: 'tiny', recipe: 'rtn-2', seed: 0, path: 'a', record: { step: 1, loss: 2 } }],
    });
    expect(existsSync(at('results.md'))).toBe(false);
  });

  it('leaves files of a run out of the logs', async () => {
    openRunFolder(directory, await record(), false).add({
      ...rtn,
      logs: [{ path: '', record: { file: 'x.jsonl', lines: [{}] } }, ...rtn.logs],
    });
    expect(readRun(directory).logs).toHaveLength(1);
  });

  it('goes on with cells that did not fail, drops what else there is of the others, and ends in the order of the plan', async () => {
    const first = openRunFolder(directory, await record(), false);
    first.add(gptq);
    first.add(dense);
    first.add(result([failedRow('rtn', 2, 'GROUP_SIZE')], rtn.logs));
    const second = openRunFolder(directory, await record(), true);
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
    const first = openRunFolder(directory, await record(), false);
    first.add(dense);
    first.add(rtn);
    const [, , last] = read('results.jsonl').split('\n');
    for (const torn of [last.slice(0, 40), last.slice(0, -1), '']) {
      writeFileSync(at('results.jsonl'), `${read('results.jsonl').split('\n').slice(0, 2).join('\n')}\n${torn}`);
      if (torn === '') appendFileSync(at('results.jsonl'), '{"mo');
      const { kept, missing } = openRunFolder(directory, await record(), true);
      expect(kept).toEqual(dense.rows);
      expect(missing).toHaveLength(4);
    }
  });

  it('goes on with a plan that has more models, recipes and seeds', async () => {
    openRunFolder(directory, await record(), false).add(gptq);
    const more = await record({ models: ['tiny', 'stories15M'], recipes: [step('rtn', 3), ...draft.recipes], seeds: [0, 1, 2] });
    const { kept, missing } = openRunFolder(directory, more, true);
    expect(kept).toEqual(gptq.rows);
    expect(missing).toHaveLength(19);
  });

  it.each<[string, Partial<PlanDraft>]>([
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
    openRunFolder(directory, await record(), false).add(gptq);
    const other = await record(changed);
    expect(() => openRunFolder(directory, other, true)).toThrow(
      expect.objectContaining({ code: 'RESUME_SETTINGS', message: expect.stringContaining(difference) as string }) as Error,
    );
    expect(readRun(directory).rows).toEqual(gptq.rows);
  });

  it('refuses rows of other versions of what computes', async () => {
    openRunFolder(directory, await record(), false).add(gptq);
    const other = { ...(await record()), versions: { node: '1' } };
    expect(() => openRunFolder(directory, other, true)).toThrow(expect.objectContaining({ code: 'RESUME_SETTINGS' }) as Error);
  });

  it('says what it cannot read', async () => {
    openRunFolder(directory, await record(), false).add(gptq);
    const now = await record();
    writeFileSync(at('results.jsonl'), 'no JSON\n');
    expect(() => openRunFolder(directory, now, true)).toThrow(expect.objectContaining({ code: 'RESUME_ROWS' }) as Error);
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
