import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { DenseLinear, Embedding, type Linear, Norm, readFloats, tensor, tensorsOf } from '@lowbit/core';
import { LowRankLinear, QuantizedLinear, quantizeWeight, SplitLinear } from '@lowbit/quant';
import { createToyModel } from '@lowbit/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { diskEvaluator, measureDisk, measureSize, sizeEvaluator } from '../src/index.js';
import { toyModel } from './toy.js';

const backend = createReferenceBackend();

describe('measureSize', () => {
  const dense = createToyModel({ tiedEmbeddings: true, biases: true });
  const down = dense.blocks[0].linears['mlp.down_proj'];
  const shrunk = (bits: number): Linear =>
    new Proxy(down, { get: (target, key) => (key === 'storageBits' ? bits : Reflect.get(target, key)) });
  const smaller = dense.withBlock(0, dense.blocks[0].with({ linears: { 'mlp.down_proj': shrunk(2 * 32 * 48) } }));

  it('is 16 bits per weight for a 16-bit model, in every part and as a whole', () => {
    const size = measureSize(dense);
    const elements = [...tensorsOf(dense).values()].reduce((a, { size: count }) => a + count, 0);
    expect(size).toMatchObject({ bitsPerWeight: 16, wholeModelBitsPerWeight: 16, parameters: elements, totalBits: 16 * elements });
    expect(size.linears).toHaveLength(14);
    const untied = createToyModel();
    expect(measureSize(untied).parameters).toBe([...tensorsOf(untied).values()].reduce((a, { size: count }) => a + count, 0));
  });

  it('counts learned positions, biases of norms, and norms of heads with their own size', () => {
    const zeros = (...shape: number[]) => tensor(new Float32Array(shape.reduce((a, b) => a * b, 1)), shape);
    const [block] = dense.blocks;
    const withHeadNorm = new Proxy(block, {
      get: (target, key) =>
        key === 'norms' ? { ...target.norms, 'self_attn.q_norm': new Norm('rms', 8, 1e-6, zeros(8)) } : Reflect.get(target, key),
    });
    const { parameters, totalBits } = measureSize(dense);
    const more = dense
      .with({
        embedding: new Embedding(dense.embedding.weight, { weight: zeros(34, 32), offset: 2 }),
        norm: new Norm('layer', 32, 1e-5, zeros(32), zeros(32)),
      })
      .withBlock(0, withHeadNorm);
    const added = 34 * 32 + 32 + 8;
    expect(measureSize(more)).toMatchObject({ parameters: parameters + added, totalBits: totalBits + 16 * added });
  });

  it('counts per Linear, over targets, and over everything', () => {
    const size = measureSize(smaller, { reference: dense, targets: (path) => path.endsWith('down_proj') });
    expect(size.linears.find(({ path }) => path === 'model.layers.0.mlp.down_proj')).toMatchObject({ weights: 32 * 48, bitsPerWeight: 2 });
    expect(size.bitsPerWeight).toBe((2 + 16) / 2);
    expect(size.totalBits).toBe(16 * size.parameters - 14 * 32 * 48);
    expect(() => measureSize(dense, { targets: () => false })).toThrow(/TARGETS_EMPTY.*model.layers.0/);
  });

  it('counts codes, scales, adapters and biases of real quantized layers', async () => {
    const query = dense.blocks[0].linears['self_attn.q_proj'] as DenseLinear;
    const weight = quantizeWeight(await readFloats(query.weight), [32, 32], {
      bits: 4,
      groupSize: 16,
      symmetric: true,
      clip: 'minmax',
      scaleDtype: 'float16',
    });
    const base = new QuantizedLinear(weight, query.bias);
    const adapted = new LowRankLinear({
      base,
      down: tensor(new Float32Array(2 * 32), [2, 32]),
      up: tensor(new Float32Array(2 * 32), [32, 2]),
    });
    const with4 = measureSize(dense.withBlock(0, dense.blocks[0].with({ linears: { 'self_attn.q_proj': base } })));
    const withAdapter = measureSize(dense.withBlock(0, dense.blocks[0].with({ linears: { 'self_attn.q_proj': adapted } })));
    // 4-bit codes and a 16-bit scale for each 16 weights; two factors of rank 2 in float32.
    expect(with4.linears[0]).toMatchObject({ kind: 'affine', bitsPerWeight: 4 + 16 / 16 });
    expect(withAdapter.linears[0]).toMatchObject({ kind: 'low-rank', bits: 5 * 1024 + 128 * 32 });
    expect(with4.totalBits).toBe(measureSize(dense).totalBits - 11 * 1024);
    expect(withAdapter.parameters).toBe(with4.parameters);
  });

  it('divides by the weights of the reference when a transform has widened a layer', () => {
    const widened = new Proxy(down, { get: (target, key) => (key === 'inFeatures' ? 64 : Reflect.get(target, key)) });
    const model = dense.withBlock(0, dense.blocks[0].with({ linears: { 'mlp.down_proj': widened } }));
    const of = (size: ReturnType<typeof measureSize>) => size.linears.find(({ path }) => path === 'model.layers.0.mlp.down_proj')?.weights;
    expect(of(measureSize(model, { reference: dense }))).toBe(32 * 48);
    expect(of(measureSize(model))).toBe(32 * 64);
  });

  it('divides by the weights of the model before its stream was widened, with and without the reference', () => {
    const untied = createToyModel();
    const zeros = (...shape: [number, number]): DenseLinear => new DenseLinear(tensor(new Float32Array(shape[0] * shape[1]), shape));
    const wider = (features: number): number => (features === 32 ? 40 : features);
    const blocks = untied.blocks.map((block) => {
      const linears = block.groups.flatMap(({ linears: names, reads, writesResidual }) =>
        names.map((name) => {
          const { inFeatures, outFeatures } = block.linears[name];
          return [
            name,
            zeros(writesResidual ? wider(outFeatures) : outFeatures, 'norm' in reads ? wider(inFeatures) : inFeatures),
          ] as const;
        }),
      );
      const split = new SplitLinear({ outlier: zeros(32, 8).weight, rest: zeros(32, 32), outlierDtype: 'float32' });
      return block.with({ linears: { ...Object.fromEntries(linears), 'self_attn.q_proj': split } });
    });
    const model = untied.with({ blocks, embedding: new Embedding(zeros(64, 40).weight), head: zeros(64, 40) });
    const [own, compared] = [measureSize(model), measureSize(model, { reference: untied })];
    expect(own.linears).toEqual(compared.linears);
    expect(own.bitsPerWeight).toBe(compared.bitsPerWeight);
    expect(own.linears[0]).toMatchObject({ kind: 'split', weights: 32 * 32, bits: 32 * 32 * 16 + 32 * 8 * 32, bitsPerWeight: 16 + 8 });
    expect(own.linears.find(({ path }) => path.endsWith('o_proj'))).toMatchObject({ weights: 32 * 32, bitsPerWeight: (16 * 40) / 32 });
    expect(compared.parameters).toBe([...tensorsOf(untied).values()].reduce((a, { size: count }) => a + count, 0));
    expect(own.parameters).toBe(compared.parameters);
    const folded = model.with({ norm: model.norm.with({ weight: undefined }) });
    expect(measureSize(folded).parameters).toBe(compared.parameters);
  });
});

describe('evaluators', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lowbit-size-'));
    await mkdir(join(directory, 'blocks'));
    await writeFile(join(directory, 'config.json'), '{}');
    await writeFile(join(directory, 'blocks', '0.safetensors'), new Uint8Array(1000));
  });
  afterAll(() => rm(directory, { recursive: true }));

  it('score sizes exactly', async () => {
    const model = toyModel();
    const scores = await sizeEvaluator({ targets: (path) => path.includes('mlp') }).evaluate(model, { backend });
    expect(scores.map(({ evaluator, value, stderr, samples }) => [evaluator, value, stderr, samples])).toEqual([
      ['bits-per-weight', 16, 0, 2 * 3 * 8 * 12],
      ['bits-per-weight-whole-model', 16, 0, measureSize(model).parameters],
    ]);
    expect(Object.keys(scores[0].parts ?? {})).toHaveLength(6);
    // What comes out differs from model to model, and is no part of how it was counted.
    const others = await sizeEvaluator({ targets: (path) => path.includes('mlp') }).evaluate(createToyModel(), { backend });
    expect(others.map(({ protocol }) => protocol)).toEqual(scores.map(({ protocol }) => protocol));
    const [disk] = await diskEvaluator(directory).evaluate(model, { backend });
    expect(disk).toMatchObject({ evaluator: 'bytes-on-disk', value: 1002, samples: 2, stderr: 0 });
    await expect(measureDisk(join(directory, 'absent'))).rejects.toThrow(/DIRECTORY_MISSING.*absent/);
  });
});
