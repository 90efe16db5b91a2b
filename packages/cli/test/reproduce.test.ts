// lowbit reproduce from end to end: experiments of an installed package, on a toy model.
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { drawFigure, planExperiment } from '@lowbit/bench';
import type { StepReference } from '@lowbit/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { builtInPlugins } from '../src/methods.js';
import { runCommandLine } from '../src/program.js';
import { buildSteps } from '../src/recipe.js';
import { recordingTerminal } from './toy-checkpoint.js';
import { commandIn, toyFolder } from './toy-folder.js';

const FIGURE = "{ mark: 'bar', encoding: { x: { field: 'method', type: 'nominal' }, y: { field: 'loss-gap', type: 'quantitative' } } }";
const SQUARES = "{ mark: 'point', encoding: { x: { field: 'x', type: 'quantitative' }, y: { field: 'y', type: 'quantitative' } } }";

/** As its author would publish it, without a method of its own. */
const experiments = `
const about = { description: 'Small.', source: 'this test' };
const step = (method, bits) => ({ name: method + ', ' + bits, recipe: [{ method, options: { bits, groupSize: 16 } }], parameters: { method, bits } });
const claim = (name, holds) => ({ name, statement: 'As it says', check: (rows) => [{ subject: 'toy', holds, evidence: rows.length + ' rows' }] });
const compared = {
  ...about, name: 'compared', title: 'Two methods', seeds: [0, 1], arms: [step('rtn', 4), step('gptq', 4)],
  table: { rows: ['model'], columns: 'method', values: ['loss-gap'] }, figure: ${FIGURE}, claims: [claim('good', true)],
};
const squares = {
  ...about, name: 'squares', title: 'Squares', table: { rows: ['x'], values: ['y'] }, figure: ${SQUARES},
  compute: async () => [1, 2, 3].map((x) => ({ x, y: x * x })),
};
export const experiments = [
  compared,
  squares,
  { ...compared, name: 'failing', arms: [step('rtn', 4), { name: 'misfit', recipe: [{ method: 'rtn', options: { groupSize: 24 } }] }] },
  { ...squares, name: 'untrue', claims: [claim('good', true), claim('bad', false)] },
  { ...squares, name: 'undrawn', figure: { mark: 'bars' } },
  { ...compared, name: 'strange', arms: [step('rntn', 4)] },
];`;

const folder = toyFolder();
const reproduce = commandIn(folder, 'reproduce');
beforeAll(async () => {
  await install('sample', experiments);
  await install('odd', 'export const experiments = [{ name: 1 }];');
});

async function install(name: string, text: string): Promise<void> {
  const home = join(folder, 'node_modules', `lowbit-method-${name}`);
  await mkdir(home, { recursive: true });
  await writeFile(join(home, 'package.json'), `{ "name": "lowbit-method-${name}", "type": "module", "exports": "./index.js" }`);
  await writeFile(join(home, 'index.js'), text);
}

const onToy = ['--model', 'toy', '--text', 'text.txt', '--window', '32', '--windows', '4', '--calibration-windows', '4', '--threads', '1'];

function read(...path: readonly string[]): Promise<string> {
  return readFile(join(folder, ...path), 'utf8');
}

type Row = Readonly<Record<string, unknown>>;

function rowsOf(text: string): Row[] {
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Row);
}

describe('listing', () => {
  it("shows all experiments, or a plugin's", async () => {
    expect((await reproduce()).code).toBe(0);
    const { output, code } = await reproduce('sample');
    expect(code).toBe(0);
    expect(output).toMatch(
      /^sample\/compared: Two methods\n {2}this test; 2 arms, checks good\n\nsample\/squares: Squares\n {2}this test; computed\n/,
    );
    expect(await reproduce('rtn')).toMatchObject({ code: 0, output: 'rtn: no experiments\n' });
    const [first] = rowsOf((await reproduce('sample', '--json')).output);
    expect(first).toMatchObject({ experiment: 'sample/compared', arms: ['rtn, 4', 'gptq, 4'], claims: [{ name: 'good' }] });
  });
});

const builtIn = builtInPlugins.flatMap(({ name, experiments }) =>
  experiments.map((experiment) => ({ id: `${name}/${experiment.name}`, experiment })),
);

describe.each(builtIn)('$id', ({ id, experiment }) => {
  it('is listed', async () => expect((await reproduce()).output).toContain(`${id}: ${experiment.title}\n`));

  it('has arms whose options their methods take, and a figure that can be drawn', async () => {
    const build = (steps: readonly StepReference[]) =>
      buildSteps(
        steps.map(({ method, options = {} }) => ({ method, options })),
        folder,
      );
    const plan = await planExperiment(id, experiment, build);
    expect('arms' in plan ? plan.arms.length : plan.seeds.length).toBeGreaterThan(0);
    expect((await drawFigure(experiment.figure, experiment.title, [])).svg).toContain('</svg>');
  });
});

describe('a run', () => {
  const out = ['runs', 'reproduce', 'sample', 'compared'];

  it('writes rows, settings, table and figure, and prints table and verdicts', async () => {
    const { code, output, errors } = await reproduce('sample/compared', ...onToy);
    expect({ code, errors }).toMatchObject({ code: 0, errors: expect.stringContaining('toy, gptq, 4, seed 1: loss-gap') as string });
    expect(output).toMatch(/^Dense: toy perplexity \d+\.\d+\.\n\n\| model \| +rtn \| +gptq \|\n.*\n\| toy {3}\| .* ± .* \| .* ± .* \|\n/);
    expect(output).toContain('- ✔ good: As it says\n  - ✔ toy: 4 rows');
    expect(await read(...out, 'table.md')).toContain(output.trim());
    expect(await read(...out, 'figure.svg')).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
    expect(JSON.parse(await read(...out, 'figure.vl.json'))).toMatchObject({ mark: 'bar', data: { values: { length: 4 } } });
    expect(rowsOf(await read(...out, 'rows.jsonl'))).toHaveLength(5);
    expect(JSON.parse(await read(...out, 'settings.json'))).toMatchObject({
      experiment: 'sample/compared',
      seeds: [0, 1],
      calibration: { windows: 4, source: { kind: 'file', split: 'train' } },
      heldOut: { source: { split: 'held-out' } },
      backend: expect.any(String) as string,
      commits: [expect.anything()],
    });
  });

  it('goes on where it was cut off, and to the same figure', async () => {
    const [rows, figure] = [await read(...out, 'rows.jsonl'), await read(...out, 'figure.svg')];
    const refused = await reproduce('sample/compared', ...onToy);
    expect(refused).toMatchObject({ code: 2, errors: expect.stringMatching(/OUTPUT_EXISTS.*--resume.*--force/) as string });
    await writeFile(join(folder, ...out, 'rows.jsonl'), rows.split('\n').toSpliced(1, 1).join('\n'));
    const resumed = await reproduce('sample/compared', ...onToy, '--resume', '--json');
    expect(resumed.code).toBe(0);
    expect(resumed.errors.match(/seed \d: loss-gap/g)).toEqual(['seed 0: loss-gap']);
    expect(rowsOf(resumed.output).map(({ arm, seed, name }) => name ?? `${String(arm)} ${String(seed)}`)).toEqual([
      'dense null',
      'rtn, 4 1',
      'gptq, 4 0',
      'gptq, 4 1',
      'rtn, 4 0',
      'good',
    ]);
    expect(await read(...out, 'figure.svg')).toBe(figure);
    const complete = await reproduce('sample/compared', ...onToy, '--resume');
    expect(complete).toMatchObject({ code: 0, errors: expect.not.stringContaining('seed') as string });
  });

  it('does not go on with rows of other settings', async () => {
    const other = await reproduce('sample/compared', ...onToy, '--windows', '5', '--resume');
    expect(other).toMatchObject({ code: 2, errors: expect.stringContaining('RESUME_SETTINGS') as string });
    expect(existsSync(join(folder, ...out, 'table.md'))).toBe(true);
    expect((await reproduce('sample/compared', ...onToy, '--windows', '5', '--force', '--arms', 'rtn*', '--seeds', '3')).code).toBe(0);
    expect(rowsOf(await read(...out, 'rows.jsonl')).map(({ arm, seed }) => [arm, seed])).toEqual([
      ['dense', null],
      ['rtn, 4', 3],
    ]);
  });

  it('that is cancelled keeps its rows', async () => {
    const cancel = new AbortController();
    const terminal = recordingTerminal();
    const words = ['reproduce', 'sample/compared', ...onToy, '--out', 'cancelled', '--json'];
    const code = await runCommandLine({
      arguments: words,
      // After the first row.
      terminal: { ...terminal, out: () => cancel.abort() },
      directory: folder,
      signal: cancel.signal,
    });
    expect(code).toBe(130);
    expect(terminal.errors()).toContain('--resume goes on from there');
    expect(rowsOf(await read('cancelled', 'rows.jsonl'))).toHaveLength(1);
    expect((await reproduce('sample/compared', ...onToy, '--out', 'cancelled', '--resume')).code).toBe(0);
    expect(rowsOf(await read('cancelled', 'rows.jsonl'))).toHaveLength(5);
  });

  it('goes on after an arm that fails, and fails in the end', async () => {
    const { code, output, errors } = await reproduce('sample/failing', ...onToy, '--seeds', '0');
    expect(code).toBe(1);
    expect(errors).toContain('CELLS_FAILED: 1 of 3 rows');
    expect(output).toMatch(/Failed:\n\n- toy, misfit, seed 0: GROUP_SIZE/);
    expect(await read('runs', 'reproduce', 'sample', 'failing', 'figure.svg')).toContain('</svg>');
  });

  it('of a computation needs no model, and claims fail it only when asked to', async () => {
    const { code, output } = await reproduce('sample/untrue', '--threads', '1');
    expect(code).toBe(0);
    expect(output).toMatch(/\| x +\| +y \|[\s\S]*✔ good[\s\S]*✘ bad/);
    const strict = await reproduce('sample/untrue', '--strict', '--resume', '--quiet');
    expect(strict).toMatchObject({ code: 1, errors: 'lowbit: CLAIMS_UNMET: bad: does not hold, or has no verdict\n' });
    expect((await reproduce('sample/squares', '--strict')).code).toBe(0);
  });
});

describe('bad input', () => {
  it.each([
    [['sample/compard'], "EXPERIMENT_UNKNOWN: no experiment 'compard' in sample; did you mean 'compared'? known: compared, squares"],
    [['gptq/any'], "EXPERIMENT_UNKNOWN: no experiment 'any' in gptq; it brings none"],
    [['gtpq/any'], "PLUGIN_UNKNOWN: no plugin 'gtpq'; did you mean 'gptq'?"],
    [['odd'], 'METHOD_PACKAGE: lowbit-method-odd: its experiments are not a list'],
    [['sample/compared', '--arms', 'rtn'], "EXPERIMENT_ARMS: sample/compared: no arm fits 'rtn'; the arms are 'rtn, 4', 'gptq, 4'"],
    [['sample/squares', '--arms', '*'], 'EXPERIMENT_OPTIONS'],
    [['sample/strange'], "METHOD_UNKNOWN: no method 'rntn'; did you mean 'rtn'?"],
    [['sample/undrawn'], "FIGURE_SPEC: figure of 'Squares'"],
    [['sample/squares', '--force', '--resume'], 'REPRODUCE_OPTIONS'],
    [['sample/compared', '--model', 'no-model'], 'MODEL_REFERENCE'],
    [['sample/compared', '--model', 'toy', '--model', './toy'], "BENCH_PLAN: two models are called 'toy'"],
    [['sample/compared', '--seeds', 'x'], 'expected a whole number'],
    [['sample/compared', '--arm', '*'], "unknown option '--arm'"],
  ])('%j', async (words, message) => {
    const outcome = await reproduce(...words, '--out', 'unwanted/here');
    expect(outcome).toMatchObject({ code: 2, output: '' });
    expect(outcome.errors).toContain(message);
    expect(existsSync(join(folder, 'unwanted'))).toBe(false);
  });
});
