// The commands from end to end on a toy model: what they print, what they write, how they exit.
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { commandIn, runIn, toyFolder } from './toy-folder.js';

const folder = toyFolder();
const lowbit = commandIn(folder);

const small = ['--threads', '1', '--text', 'text.txt', '--window', '32', '--windows', '8'];

describe('quantize', () => {
  it('writes a checkpoint that can be inspected, judged and generated from, and does not overwrite it unasked', async () => {
    const quantized = await lowbit('quantize', 'toy', '--recipe', 'gptq:bits=4,groupSize=16', '--out', 'toy-4', ...small, '--json');
    expect(quantized).toMatchObject({ code: 0 });
    const summary = JSON.parse(quantized.output) as { bitsPerWeight: number; bytes: number };
    expect(summary.bitsPerWeight).toBeGreaterThan(4);
    expect(summary.bitsPerWeight).toBeLessThan(6);
    expect(quantized.errors).toContain('calibration: text.txt all');

    const inspected = await lowbit('inspect', 'toy-4', '--json');
    expect(JSON.parse(inspected.output)).toMatchObject({
      model: 'toy-4',
      recipe: [{ method: 'gptq', options: { bits: 4, groupSize: 16 } }],
      seed: 0,
    });
    expect((await lowbit('inspect', 'toy-4')).output).toMatch(/self_attn\.q_proj +2 × affine +32 × 32/);

    const judged = await lowbit(
      'eval',
      'toy-4',
      '--reference',
      'toy',
      '--evaluators',
      'text',
      'size',
      'disk',
      ...small,
      '--json',
      '--quiet',
    );
    const scores = judged.output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { evaluator: string; value: number });
    expect(scores.map(({ evaluator }) => evaluator)).toEqual([
      'perplexity',
      'kl',
      'top1-agreement',
      'loss-gap',
      'bits-per-weight',
      'bits-per-weight-whole-model',
      'bytes-on-disk',
    ]);
    expect(scores[4].value).toBeCloseTo(summary.bitsPerWeight, 6);
    expect(judged.errors).toBe('');

    const refused = await lowbit('quantize', 'toy', '--recipe', 'rtn', '--out', 'toy-4', ...small);
    expect(refused).toMatchObject({ code: 2, output: '' });
    expect(refused.errors).toContain('OUTPUT_EXISTS');
    expect((await lowbit('quantize', 'toy', '--recipe', 'rtn', '--out', 'toy-4', '--force', ...small)).code).toBe(0);
    expect(JSON.parse((await lowbit('inspect', 'toy-4', '--json')).output)).toMatchObject({ recipe: [{ method: 'rtn' }] });
  });

  it('applies the steps of several recipes in order, and reads them from files', async () => {
    await writeFile(
      join(folder, 'attention.yaml'),
      "- method: rtn\n  options: { bits: 8, groupSize: 16 }\n  targets: ['**.self_attn.*']\n",
    );
    const recipe = ['--recipe', 'attention.yaml', '--recipe', 'rtn:bits=2,groupSize=16,targets=["**.mlp.*"]'];
    expect((await lowbit('quantize', 'toy', ...recipe, '--out', 'mixed', ...small)).code).toBe(0);
    expect(JSON.parse((await lowbit('inspect', 'mixed', '--json')).output)).toMatchObject({
      recipe: [
        { options: { bits: 8 }, targets: ['**.self_attn.*'] },
        { options: { bits: 2 }, targets: ['**.mlp.*'] },
      ],
    });
  });

  it('is cancelled with 130 and leaves no checkpoint', async () => {
    const outcome = await runIn(folder, ['quantize', 'toy', '--recipe', 'gptq', '--out', 'cancelled', ...small], AbortSignal.abort());
    expect(outcome.code).toBe(130);
    expect(outcome.errors).toContain('ABORTED');
    await expect(stat(join(folder, 'cancelled', 'config.json'))).rejects.toThrow();
  });
});

describe('a recipe that does not fit the model', () => {
  it.each([
    ['gptq:groupSize=16,targets=["**.q_porj"]', 'TARGETS_EMPTY'],
    ['gptq:groupSize=24', 'GROUP_SIZE'],
    ['quad:rank=33+gptq:groupSize=16', 'RANK'],
    ['quad:rank=4,targets=["**.mlp.*"]', 'TARGETS_UNUSED'],
  ])('%s is refused before calibration text is written', async (recipe, code) => {
    const self = ['--text', 'self', '--window', '32', '--threads', '1'];
    const outcome = await lowbit('quantize', 'toy', '--recipe', recipe, '--out', 'misfit/toy', ...self);
    expect(outcome).toMatchObject({ code: 2, output: '' });
    expect(outcome.errors).toMatch(new RegExp(`^lowbit: ${code}: .*\n$`));
    await expect(stat(join(folder, 'misfit'))).rejects.toThrow();

    const sizes = ['--windows', '1', '--calibration-windows', '4', '--json'];
    const bench = await lowbit('bench', '--model', 'toy', '--recipe', recipe, '--evaluators', 'text', ...self, ...sizes);
    const rows = bench.output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { error?: { code: string } });
    expect(rows.at(-1)).toMatchObject({ error: { code }, calibration: null });
    expect(bench.errors).not.toContain('calibrated');
  });
});

describe('a recipe that reads no data', () => {
  it.each(['rotate+rtn:groupSize=16', 'quad:rank=4,basis=random+rtn:groupSize=16', 'activations:bits=8+rtn:groupSize=16'])(
    '%s needs no calibration text',
    async (recipe) => {
      const self = ['--text', 'self', '--threads', '1', '--force'];
      const outcome = await lowbit('quantize', 'toy', '--recipe', recipe, '--out', 'data-free', ...self);
      expect(outcome).toMatchObject({ code: 0 });
      expect(outcome.errors).not.toContain('calibration');
    },
  );
});

describe('bad input leaves no output directory', () => {
  it.each([
    [['quantize', 'no-model', '--recipe', 'rtn:groupSize=16']],
    [['quantize', 'toy', '--recipe', 'gptq:groupSize=16', '--text', 'absent.txt']],
    [['bench', '--model', 'no-model', '--recipe', 'rtn']],
    [['bench', '--model', 'toy', '--recipe', 'rtn', '--text', 'absent.txt']],
  ])('%j', async (words) => {
    await mkdir(join(folder, 'there'), { recursive: true });
    for (const out of ['there', 'there/new/toy']) expect(await lowbit(...words, '--out', out)).toMatchObject({ code: 2 });
    expect(await readdir(join(folder, 'there'))).toEqual([]);
  });
});

describe('bad input exits with 2 and says what to do', () => {
  it.each([
    [
      ['quantize', 'tinny', '--recipe', 'rtn', '--out', 'x'],
      "MODEL_REFERENCE: 'tinny' is no known model and no directory; did you mean 'tiny'?",
    ],
    [['quantize', 'toy', '--recipe', 'gtpq', '--out', 'x'], "METHOD_UNKNOWN: no method 'gtpq'; did you mean 'gptq'? known: rtn, gptq"],
    [['quantize', 'toy', '--recipe', 'rtn:bits=9', '--out', 'x'], 'bits takes integer 1 to 8, got 9'],
    [
      ['quantize', 'toy', '--recipe', 'rtn:bit=4', '--out', 'x'],
      "OPTIONS_INVALID: rtn: no option 'bit'; did you mean 'bits'? known: bits, groupSize,",
    ],
    [['quantize', 'toy', '--recipe', 'rtn:groupSize=24', '--out', 'x'], 'GROUP_SIZE'],
    [['quantize', 'toy', '--recipe', 'rtn:targets=["**.nothing"]', '--out', 'x'], 'TARGETS_EMPTY'],
    [['quantize', 'toy', '--recipe', 'missing.yaml', '--out', 'x'], 'RECIPE_FILE'],
    [['quantize', 'toy', '--out', 'x'], "required option '--recipe <recipe>' not specified"],
    [['quantize', 'toy', '--recipe', 'rtn', '--out', 'x', '--seed', 'one'], 'expected a whole number'],
    [['quantise', 'toy'], 'Did you mean quantize?'],
    [['eval', 'toy', '--evaluators', 'tekst'], "EVALUATOR_UNKNOWN: no evaluator 'tekst'; did you mean 'text'?"],
    [['eval', 'toy', '--text', 'absent.txt'], 'CORPUS_MISSING'],
    [['eval', 'toy', '--text', 'text.txt', '--protocol', 'gptq-2048'], 'WINDOW_CONTEXT'],
    [['bench', '--preset', 'demmo'], "PRESET_UNKNOWN: no preset 'demmo'; did you mean 'demo'?"],
    [['bench', '--model', 'toy'], 'BENCH_PLAN'],
    [['bench', '--model', 'toy', '--recipe', 'rtn', '--recipe', 'rtn'], "two recipes are called 'rtn'"],
    [['bench', '--model', 'toy', '--model', './toy', '--recipe', 'rtn'], "two models are called 'toy'"],
    [['eval', 'toy', '--evaluators', 'layer-error'], 'REFERENCE_MISSING'],
    [['eval', 'toy', '--reference', 'tiny', '--text', 'text.txt', '--window', '32', '--quiet'], 'TOKEN_RANGE'],
    [['generate', 'toy', '--prompt', 'word '.repeat(500)], 'PROMPT_LENGTH'],
    [['quantize', 'toy', '--recipe', 'rtn', '--out', 'toy', '--force'], 'OUTPUT_IS_SOURCE'],
    [['quantize', 'toy', '--recipe', 'rtn', '--out', 'text.txt/x'], 'OUTPUT_DIRECTORY'],
    [['bench', '--model', 'toy', '--recipe', 'rtn', '--text', 'text.txt', '--evaluators', 'disk'], 'EVALUATOR_FILES'],
    [
      ['bench', '--model', 'toy', '--recipe', 'rtn', '--evaluators', 'dsik'],
      "EVALUATOR_UNKNOWN: no evaluator 'dsik'; known: text, layer-error, task, size, speed, memory\n",
    ],
    [['eval', 'toy', '--text', 'self', '--protocol', 'gptq-2048'], 'PROTOCOL_TEXT'],
    [['generate', 'toy', '--top-p', '0'], 'expected a number above 0, up to 1'],
    [['generate', 'toy', '--temperature', '-1'], 'expected a number of at least 0'],
  ])('%j', async (words, message) => {
    const outcome = await lowbit(...words);
    expect(outcome.errors).toContain(message);
    expect(outcome).toMatchObject({ code: 2, output: '' });
  });
});

describe('bench', () => {
  it('writes a row a score and a table; a cell that fails becomes a row with its error', async () => {
    const recipes = ['--recipe', 'rtn:bits=4,groupSize=16', '--recipe', 'rtn:bits=4,groupSize=24', '--recipe', 'gptq:bits=4,groupSize=16'];
    const outcome = await lowbit(
      'bench',
      '--model',
      'toy',
      ...recipes,
      '--text',
      'text.txt',
      '--window',
      '32',
      '--windows',
      '8',
      '--calibration-windows',
      '8',
      '--out',
      'results',
      '--threads',
      '1',
    );
    expect(outcome.code).toBe(1);
    expect(outcome.errors).toContain('CELLS_FAILED: 1 of 13 rows');
    const rows = (await readFile(join(folder, 'results', 'results.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(rows).toHaveLength(13);
    expect(Object.keys(rows[0])).toEqual(
      expect.arrayContaining([
        'model',
        'recipe',
        'method',
        'bits',
        'groupSize',
        'bitsPerWeight',
        'evaluator',
        'value',
        'stderr',
        'seconds',
        'peakRssMiB',
        'versions',
        'steps',
        'protocol',
        'seed',
        'commit',
      ]),
    );
    expect(rows.filter(({ value }) => value === null)).toEqual([
      expect.objectContaining({ recipe: 'rtn:bits=4,groupSize=24', error: expect.objectContaining({ code: 'GROUP_SIZE' }) as unknown }),
    ]);
    expect(rows.find(({ recipe, evaluator }) => recipe === 'dense' && evaluator === 'kl')).toMatchObject({ value: 0, bitsPerWeight: 16 });
    expect(await readFile(join(folder, 'results', 'results.md'), 'utf8')).toContain('| toy   | dense');
  });

  it('prints rows with --json', async () => {
    const outcome = await lowbit(
      'bench',
      '--model',
      'toy',
      '--recipe',
      'rtn:groupSize=16',
      '--text',
      'text.txt',
      '--window',
      '32',
      '--windows',
      '4',
      '--json',
      '--quiet',
      '--threads',
      '1',
    );
    expect(outcome).toMatchObject({ code: 0, errors: '' });
    expect(
      outcome.output
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { evaluator: string }).evaluator),
    ).toHaveLength(8);
  });
});

describe('bench on a file', () => {
  const words = ['--text', 'text.txt', '--window', '32', '--windows', '4', '--calibration-windows', '4', '--threads', '1'];

  it('calibrates on one part of the text and judges on another', async () => {
    const outcome = await lowbit('bench', '--model', 'toy', '--recipe', 'gptq:groupSize=16', ...words, '--json');
    expect(outcome.errors).toContain('calibrated on text.txt train');
    const [row] = outcome.output.trim().split('\n');
    expect(JSON.parse(row)).toMatchObject({
      protocol: { corpus: 'text.txt', split: 'held-out', documentRule: expect.stringContaining('last 10th') as unknown },
    });
  });

  it('leaves earlier results as they are when the input is bad', async () => {
    const out = join(folder, 'earlier');
    await mkdir(out);
    await writeFile(join(out, 'results.jsonl'), 'earlier rows\n');
    await writeFile(join(out, 'results.md'), 'earlier table\n');
    const bench = (model: string) => lowbit('bench', '--model', model, '--recipe', 'rtn', ...words, '--out', 'earlier', '--force');
    expect(await bench('no-model')).toMatchObject({ code: 2 });
    expect(await readFile(join(out, 'results.jsonl'), 'utf8')).toBe('earlier rows\n');
    expect(await readFile(join(out, 'results.md'), 'utf8')).toBe('earlier table\n');
    expect(await bench('toy')).toMatchObject({ code: 0 });
    expect(await readFile(join(out, 'results.jsonl'), 'utf8')).not.toContain('earlier');
  });
});

describe('generate', () => {
  it('continues a prompt, equally for equal seeds', async () => {
    const words = ['generate', 'toy', '--prompt', 'The ', '--tokens', '12', '--seed', '3', '--json', '--threads', '1'];
    const first = await lowbit(...words);
    expect(first.code).toBe(0);
    expect(JSON.parse(first.output)).toMatchObject({ prompt: 'The ', tokens: 12 });
    expect((await lowbit(...words)).output).toBe(first.output);
  });
});
