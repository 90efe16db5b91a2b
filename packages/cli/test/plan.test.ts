// lowbit plan: what a run takes and whether it fits, and the line that quantize says of it; the table of layers beside a checkpoint.
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { resolveModel } from '@lowbit/bench';
import { gptq } from '@lowbit/gptq';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatBytes, type Machine, type PlanRequest, planRun } from '../src/run-plan.js';
import { commandIn, toyFolder } from './toy-folder.js';

const folder = toyFolder();
const lowbit = commandIn(folder);

const small = ['--windows', '8', '--window', '32'];

describe('lowbit plan', () => {
  it('says what each step takes, and writes nothing', async () => {
    const before = await readdir(folder);
    const { code, output, errors } = await lowbit('plan', 'toy', '--recipe', 'gptq:bits=3+lrec:rank=2', '--out', 'out/deep', ...small);
    expect([code, errors]).toEqual([0, expect.stringContaining('calibration: ')]);
    expect(output.split('\n')).toEqual([
      'toy: 2 blocks',
      expect.stringMatching(/^step +method +Linears +time +memory$/),
      expect.stringMatching(/^0 +gptq +14 +\d+ s +\S+ [KM]iB$/),
      expect.stringMatching(/^1 +lrec +14 +\d+ s +\S+ [KM]iB$/),
      expect.stringMatching(/^time {4}about .*, at \d+ GFLOP\/s in matrix products/),
      expect.stringMatching(/^memory {2}about \S+ [MG]iB at the peak, \S+ [GM]iB available$/),
      expect.stringMatching(/^disk {4}about \S+ KiB for the checkpoint and \S+ KiB for the store .* free$/),
      '',
    ]);
    expect(await readdir(folder)).toEqual(before);
  });

  it('is a JSON object, and costs no more for a window less', async () => {
    const plan = async (...words: string[]) => JSON.parse((await lowbit('plan', 'toy', '--json', '--quiet', '--recipe', ...words)).output);
    const [gptq, fewer, rtn] = [await plan('gptq', ...small), await plan('gptq', '--windows', '4', '--window', '32'), await plan('rtn')];
    expect(gptq).toMatchObject({ model: 'toy', steps: [{ method: 'gptq', targets: 14 }], disk: { storeBytes: expect.any(Number) } });
    expect(gptq.disk.freeBytes, 'nobody says where').toBeUndefined();
    expect(gptq.steps[0].flops).toBeGreaterThan(fewer.steps[0].flops);
    expect(rtn.steps[0]).toMatchObject({ method: 'rtn', flops: 0 });
    expect(gptq.memory.peakBytes).toBeGreaterThan(gptq.memory.processBytes);
  });

  it('takes every option of quantize, and no other', async () => {
    const options = async (command: string): Promise<string[]> => {
      const { output } = await lowbit(command, '--help');
      return [...output.matchAll(/^ +(--[a-z-]+)(?: <[^>]+>)? {2,}(.*)$/gm)].map(([, name]) => name).filter((name) => name !== '--json');
    };
    const taken = await options('plan');
    expect(taken).toEqual(await options('quantize'));
    expect(taken).toContain('--min-tokens');
    const words = ['--recipe', 'gptq', '--min-tokens', '3', '--force', '--resume', '--memory', '1MiB', '--propagate', 'dense'];
    expect(await lowbit('plan', 'toy', '--quiet', ...words, ...small)).toMatchObject({ code: 0, errors: '' });
  });

  it('counts the store that a run has wherever its output goes, and looks at the place that is named', async () => {
    const planned = async (...words: string[]) =>
      JSON.parse((await lowbit('plan', 'toy', '--json', '--quiet', '--recipe', 'gptq', ...small, ...words)).output).disk;
    const beside = await planned('--out', 'made');
    expect(beside.storeBytes).toBeGreaterThan(0);
    expect((await planned()).storeBytes).toBe(beside.storeBytes);
    expect((await planned('--store', 'kept')).storeBytes).toBe(beside.storeBytes);
    expect((await planned('--no-store')).storeBytes).toBe(0);
    // What lies beside the folder that the command runs in is no run of it.
    await mkdir(`${folder}.partial`);
    await writeFile(join(`${folder}.partial`, 'x.safetensors'), 'x');
    expect((await planned()).storeBytes).toBe(beside.storeBytes);
    await rm(`${folder}.partial`, { recursive: true });
  });

  it.each([
    ['TARGETS_EMPTY', ['--recipe', 'gptq:targets=["nothing"]']],
    ['GROUP_SIZE', ['--recipe', 'gptq:groupSize=24']],
    ['OUTPUT_EXISTS', ['--recipe', 'gptq', '--out', 'toy']],
    ['OUTPUT_IS_SOURCE', ['--recipe', 'gptq', '--out', 'toy', '--force']],
    ['STORE_DIRECTORY', ['--recipe', 'gptq', '--out', 'made', '--store', 'toy/store']],
    ['STORE_DIRECTORY', ['--recipe', 'gptq', '--store', 'toy']],
    ['STORE_OPTIONS', ['--recipe', 'gptq', '--no-store', '--memory', '1GiB']],
    ['CORPUS_MISSING', ['--recipe', 'gptq', '--text', 'nowhere.txt']],
    ['CALIBRATION_SHORT', ['--recipe', 'gptq', '--text', 'short.txt']],
    ['WINDOW_CONTEXT', ['--recipe', 'gptq', '--window', '4096']],
    ['TASK_MISSING', ['--recipe', 'rtn+quzo', '--task', 'nowhere.tsv', '--template', '{a} is {b}']],
  ])('refuses with %s what quantize would refuse', async (error, words) => {
    await writeFile(join(folder, 'short.txt'), 'too short');
    const { code, errors } = await lowbit('plan', 'toy', '--quiet', ...words);
    expect([code, errors]).toEqual([2, expect.stringContaining(error)]);
  });
});

describe('what there is', () => {
  const GIB = 2 ** 30;
  let request: PlanRequest;
  beforeAll(async () => {
    const { model } = await resolveModel('toy', folder);
    const backend = await createOnnxBackend();
    const calibration = { windows: 4, tokens: 12 };
    request = {
      model,
      recipe: [gptq()],
      backend,
      calibration,
      propagate: 'quantized',
      hasStore: true,
      out: '/a/out',
      store: '/b/store',
      memory: undefined,
    };
  });
  afterAll(() => request.backend.dispose());
  const machine = ({ available = 8 * GIB, total = 16 * GIB, free = GIB }): Machine => ({
    memory: () => ({ available, total }),
    disk: async (path) => ({ id: path.slice(0, 2), free }),
  });

  it('is enough', async () => {
    expect(await planRun(request, machine({}))).toMatchObject({
      warnings: [],
      disk: { freeBytes: GIB },
      memory: { availableBytes: 8 * GIB },
    });
  });

  it('is not enough on the disk', async () => {
    await expect(planRun(request, machine({ free: 1000 }))).rejects.toMatchObject({
      code: 'DISK_SPACE',
      message: expect.stringMatching(/\/a\/out: about \S+ KiB are needed and 1000 B are free; make room/),
    });
  });

  it('is shared by places on one disk', async () => {
    const { disk } = await planRun(request, machine({}));
    // Enough for either and not for both.
    const free = Math.max(disk.outputBytes, disk.storeBytes) + 1;
    expect((await planRun(request, machine({ free }))).disk.freeBytes).toBe(free);
    await expect(planRun({ ...request, store: '/a/store' }, machine({ free }))).rejects.toMatchObject({
      message: expect.stringContaining('/a/out and /a/store: about'),
    });
  });

  it('counts what the store has already: a run that is nearly done goes on', async () => {
    const store = join(folder, 'held');
    const { disk } = await planRun({ ...request, store }, machine({}));
    const everywhere: Machine = { ...machine({}), disk: async () => ({ id: 'one', free: disk.outputBytes + 1 }) };
    await expect(planRun({ ...request, store }, everywhere)).rejects.toMatchObject({ code: 'DISK_SPACE' });
    await mkdir(store);
    await writeFile(join(store, 'entry.safetensors'), new Uint8Array(disk.storeBytes));
    expect((await planRun({ ...request, store }, everywhere)).disk).toMatchObject({ storeBytes: disk.storeBytes });
  });

  it('is little memory, or too little', async () => {
    expect((await planRun(request, machine({ available: 2 ** 20 }))).warnings).toEqual([
      expect.stringMatching(/^the run takes about \S+ [MG]iB of memory, and 1\.0 MiB are available; fewer --windows/),
    ]);
    await expect(planRun(request, machine({ available: 2 ** 20, total: 2 ** 20 }))).rejects.toMatchObject({ code: 'MEMORY_SHORT' });
  });

  it('is written in units of its size', () => {
    expect([0, 1023, 1024, 10 * 1024, 1.5 * GIB, 5000 * GIB].map(formatBytes)).toEqual([
      '0 B',
      '1023 B',
      '1.0 KiB',
      '10 KiB',
      '1.5 GiB',
      '4.9 TiB',
    ]);
  });
});

it('quantize says the plan in a line, and leaves a line for each Linear', async () => {
  const few = ['--windows', '1', '--window', '16'];
  const { code, errors } = await lowbit('quantize', 'toy', '--recipe', 'gptq:bits=3,groupSize=16', '--out', 'made', ...few);
  expect(code).toBe(0);
  expect(errors).toMatch(/^plan: about \d+ s, \S+ [MG]iB of memory at the peak, \S+ [KM]iB on disk$/m);
  const [header, ...lines] = (await readFile(join(folder, 'made', 'layers.csv'), 'utf8')).trimEnd().split('\n');
  const columns = header.split(',');
  const rows = lines.map((line) => Object.fromEntries(line.split(',').map((cell, i) => [columns[i], cell])));
  expect(rows).toHaveLength(14);
  expect(rows[0]).toMatchObject({ step: '0', method: 'gptq', path: 'model.layers.0.self_attn.q_proj', tokens: '16', dead_inputs: '0' });
  for (const row of rows) {
    expect(Number(row['bits_per_weight'])).toBeGreaterThan(3);
    expect(Number(row['relative_error'])).toBeGreaterThan(0);
    expect(Number(row['dampening'])).toBeGreaterThan(0);
    // 16 tokens for 32 or 64 inputs.
    expect(row['warnings']).toContain('GRAM_SINGULAR');
  }
});

it.each([
  ['qat-blocks:bits=3,groupSize=16,epochs=1', 'qat-blocks', 14],
  ['rtn:bits=3,groupSize=16+lrec:rank=2,epochs=1', 'lrec', 28],
])('leaves such lines for methods that do not go from Linear to Linear: %s', async (recipe, method, count) => {
  const { code } = await lowbit('quantize', 'toy', '--recipe', recipe, '--out', method, '--windows', '8', '--window', '16');
  expect(code).toBe(0);
  const lines = (await readFile(join(folder, method, 'layers.csv'), 'utf8')).trimEnd().split('\n').slice(1);
  expect(lines).toHaveLength(count);
  for (const line of lines.slice(-14)) {
    const [, name, , , error, , , , , bits, seconds] = line.split(',');
    expect(name).toBe(method);
    expect([Number(error) > 0, Number(error) < 1, Number(bits) > 3, Number(seconds) >= 0]).toEqual([true, true, true, true]);
  }
});

it('--min-tokens rounds to nearest what fewer tokens reach', async () => {
  const few = ['--windows', '1', '--window', '16', '--min-tokens', '17'];
  const { code, errors } = await lowbit('quantize', 'toy', '--recipe', 'gptq:bits=3,groupSize=16', '--out', 'floor', ...few);
  expect([code, errors]).toEqual([
    0,
    expect.stringContaining('FEW_TOKENS: model.layers.1.mlp.down_proj: 16 calibration tokens reach it, fewer than 17'),
  ]);
  const [header, ...lines] = (await readFile(join(folder, 'floor', 'layers.csv'), 'utf8')).trimEnd().split('\n');
  const columns = header.split(',');
  for (const line of lines) {
    const cells = line.split(',');
    expect(cells[columns.indexOf('relative_error')]).toBe(cells[columns.indexOf('nearest_error')]);
  }
});
