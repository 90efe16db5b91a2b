// The folder of a run: what is kept when a run is killed, goes on, or starts again.
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import type { Backend } from '@lowbit/core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type ExperimentChanges, planExperiment } from '../src/experiment/plan.js';
import { reportExperiment } from '../src/experiment/report.js';
import { holdsRows, openExperimentFolder } from '../src/experiment/row-file.js';
import { type ExperimentSettings, settingsOf } from '../src/experiment/settings.js';
import { buildRecipe, compared, squares } from './experiments.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lowbit-bench-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const read = (name: string): string => readFileSync(join(directory, name), 'utf8');
let backend: Backend;
beforeAll(async () => {
  backend = await createOnnxBackend({ threads: 1 });
});
afterAll(() => backend.dispose());

async function settings(changes?: ExperimentChanges, experiment = compared): Promise<ExperimentSettings> {
  return settingsOf(await planExperiment('sample/compared', experiment, buildRecipe, changes), backend);
}

const cell = (arm: string, seed: number | null, more = {}) => ({ model: 'tiny', arm, seed, ...more });

describe('openExperimentFolder', () => {
  it('writes nothing before there is a row, and each row at once', async () => {
    const folder = openExperimentFolder(directory, await settings(), false);
    expect(holdsRows(directory)).toBe(false);
    folder.add([cell('dense', null)]);
    expect(read('rows.jsonl')).toBe('{"model":"tiny","arm":"dense","seed":null}\n');
    folder.add([cell('rtn, 2', 0, { x: 1 }), cell('rtn, 2', 0, { x: 2 })]);
    expect(read('rows.jsonl').split('\n')).toHaveLength(4);
    expect(JSON.parse(read('settings.json'))).toMatchObject({
      experiment: 'sample/compared',
      models: ['tiny'],
      seeds: [0, 1],
      calibration: { windows: 4 },
      arms: { 'gptq, 2': { calibrationWindows: 8, steps: [{ method: 'gptq', version: 1, options: { bits: 2, groupSize: 32 } }] } },
      versions: { node: process.versions.node },
      backend: backend.name,
    });
  });

  it('goes on with rows that did not fail', async () => {
    const first = openExperimentFolder(directory, await settings(), false);
    first.add([cell('dense', null), cell('rtn, 2', 0)]);
    first.add([cell('rtn, 2', 1, { failure: 'X' })]);
    const second = openExperimentFolder(directory, await settings(), true);
    expect(second.kept).toEqual([cell('dense', null), cell('rtn, 2', 0)]);
    expect(read('rows.jsonl')).toContain('failure');
    second.add([cell('rtn, 2', 1)]);
    expect(
      read('rows.jsonl')
        .split('\n')
        .map((line) => line && (JSON.parse(line) as object)),
    ).toEqual([cell('dense', null), cell('rtn, 2', 0), cell('rtn, 2', 1), '']);
  });

  it('drops the cell that a killed run was writing', async () => {
    const first = openExperimentFolder(directory, await settings(), false);
    first.add([cell('dense', null), cell('rtn, 2', 0, { x: 1 })]);
    appendFileSync(join(directory, 'rows.jsonl'), '{"model":"tiny","arm":"rtn, 2","se');
    expect(openExperimentFolder(directory, await settings(), true).kept).toEqual([cell('dense', null)]);
  });

  it('goes on with other arms and seeds of the same experiment', async () => {
    openExperimentFolder(directory, await settings({ arms: ['rtn*'], seeds: [0] }), false).add([cell('rtn, 2', 0)]);
    const wider = openExperimentFolder(directory, await settings({ arms: ['gptq*'], seeds: [5] }), true);
    expect(wider.kept).toHaveLength(1);
    expect(wider.settings.seeds).toEqual([0, 5]);
    expect(Object.keys(wider.settings.arms ?? {})).toEqual(['rtn, 2', 'gptq, 2']);
  });

  it('refuses rows of a computation from other models', async () => {
    const sizes = { ...squares, models: ['tiny'] };
    const settingsFor = async (models?: readonly string[]) =>
      settingsOf(await planExperiment('sample/sizes', sizes, buildRecipe, { models }), backend);
    openExperimentFolder(directory, await settingsFor(), false).add([{ seed: 0, x: 1 }]);
    expect(openExperimentFolder(directory, await settingsFor(['tiny']), true).kept).toHaveLength(1);
    const other = await settingsFor(['stories15M']);
    expect(() => openExperimentFolder(directory, other, true)).toThrow(/RESUME_SETTINGS: .*\(models\)/);
  });

  it.each([
    [{ heldOutWindows: 3 }, compared, 'heldOut'],
    [{ window: 16 }, compared, 'calibration, heldOut'],
    [{}, { ...compared, evaluators: ['layer-error'] }, 'evaluators'],
    [{}, { ...compared, samples: { prompts: [''], maxTokens: 9 } }, 'samples'],
    [{}, { ...compared, arms: [{ name: 'rtn, 2', recipe: [{ method: 'rtn', options: { bits: 3 } }] }] }, "arm 'rtn, 2'"],
  ])('refuses rows of other settings (%j)', async (changes, experiment, what) => {
    openExperimentFolder(directory, await settings(), false).add([cell('dense', null)]);
    const other = await settings(changes, experiment);
    expect(() => openExperimentFolder(directory, other, true)).toThrow(
      `RESUME_SETTINGS: ${directory}: its rows were made with other settings (${what})`,
    );
    // Starting again is another matter.
    expect(openExperimentFolder(directory, other, false).kept).toEqual([]);
  });

  it('refuses what is no folder of rows', async () => {
    writeFileSync(join(directory, 'settings.json'), '{}');
    writeFileSync(join(directory, 'rows.jsonl'), 'no JSON\n');
    const now = await settings();
    expect(() => openExperimentFolder(directory, now, true)).toThrow('RESUME_ROWS');
  });

  it('finishes with table and figure, which a run that starts again removes with its first row', async () => {
    const plan = await planExperiment('sample/squares', squares, buildRecipe);
    const folder = openExperimentFolder(directory, settingsOf(plan, backend), false);
    const rows = [{ seed: 0, x: 1, y: 1 }];
    folder.add(rows);
    folder.finish(reportExperiment(plan, rows, 'figure.svg'), { svg: '<svg/>', specification: { mark: 'point' } });
    expect(read('table.md')).toMatch(/^# sample\/squares[\s\S]*\| x +\| +y \|[\s\S]*\n$/);
    expect([read('figure.svg'), JSON.parse(read('figure.vl.json'))]).toEqual(['<svg/>', { mark: 'point' }]);
    const again = openExperimentFolder(directory, settingsOf(plan, backend), false);
    expect(existsSync(join(directory, 'table.md'))).toBe(true);
    again.add(rows);
    expect(existsSync(join(directory, 'table.md'))).toBe(false);
  });

  it('says where the rows are when it cannot write', async () => {
    const folder = openExperimentFolder(join(directory, 'gone'), await settings(), false);
    expect(() => folder.add([cell('dense', null)])).toThrow('RESULTS_WRITE');
  });
});
