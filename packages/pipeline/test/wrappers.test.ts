// Layers behind rotations and beside full-precision columns: what methods see of them, how errors are judged, and what a store keeps.
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  absmax,
  type Block,
  createRng,
  defineMethod,
  gram,
  type KeyValueQuantization,
  type Linear,
  type Model,
  memoryStore,
  type Recipe,
  type RunEvent,
  read,
  requireDense,
  slice,
  type Tensor,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { ActivationQuantizedLinear, linearKinds, RotatedLinear, type Rotation, rotateFeatures, SplitLinear } from '@lowbit/quant';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { quantize } from '../src/index.js';
import { testKinds } from './methods/linears.js';
import { isometry } from './methods/rotate.js';
import { nearest, searched } from './methods/round.js';

const backend = createReferenceBackend();
const calibration = createToyTokens({ seed: 2, batchCount: 2, batchSize: 1, tokens: 6 });
const kinds = { ...linearKinds, ...testKinds };
const COLUMNS = 8;

/** Four heads of eight, with each other. */
const acrossHeads: Rotation = { kind: 'hadamard', size: 4, blocks: 1 };
/** The 48 inputs of down_proj: three stretches of sixteen, or a matrix that is not symmetric. */
const stretches: Rotation = { kind: 'hadamard', size: 48, blocks: 3 };
const turned: Rotation = { kind: 'matrix', matrix: isometry(createRng(8), 48, 0) };

/** Splits what reads a norm, rotates what writes to the stream; k_proj does both. The function stays what it was, up to rounding activations. */
const wrapAll = defineMethod({
  name: 'test-wrap',
  version: 1,
  options: z.strictObject({ activationBits: z.int().default(8), roundsKeys: z.boolean().default(false) }),
  async transform(model, { options: { activationBits, roundsKeys } }) {
    const rounded = (base: Linear): Linear => new ActivationQuantizedLinear(base, { bits: activationBits });
    const rotated = (linear: Linear, rotation: Rotation): Linear =>
      new RotatedLinear({ base: rounded(linear.withWeight(rotateFeatures(linear.effectiveWeight(), rotation))), rotation });
    const split = (linear: Linear, over: (rest: Linear) => Linear): Linear => {
      const weight = linear.effectiveWeight();
      const rest = over(linear.withWeight(slice(weight, 1, COLUMNS, linear.inFeatures)));
      return new SplitLinear({ outlier: slice(weight, 1, 0, COLUMNS), rest, outlierDtype: 'float32' });
    };
    const wrapped = (block: Block, name: string): Linear => {
      const linear = block.linears[name];
      if (name.endsWith('o_proj')) return rotated(linear, acrossHeads);
      if (name.endsWith('down_proj')) return rotated(linear, block.path.endsWith('0') ? stretches : turned);
      return split(linear, name.endsWith('k_proj') ? (rest) => rotated(rest, { kind: 'hadamard', size: 24, blocks: 3 }) : rounded);
    };
    const blocks = model.blocks.map((block) => {
      const linears = Object.fromEntries(Object.keys(block.linears).map((name) => [name, wrapped(block, name)]));
      return block.with({ linears, ...(roundsKeys && { keyValues }) });
    });
    return model.with({ blocks });
  },
});

interface Seen {
  readonly linear: Linear;
  readonly reference: Linear;
  readonly gram: Tensor;
  readonly peak: Tensor;
  readonly rows: number;
}

async function seenBy(recipe: Recipe): Promise<{ seen: Map<string, Seen>; model: Model; events: RunEvent[] }> {
  const seen = new Map<string, Seen>();
  const events: RunEvent[] = [];
  const recording = defineMethod({
    name: 'test-recording',
    version: 1,
    options: z.strictObject({}),
    statistics: { gram, peak: absmax },
    async quantizeLinear(linear, { path, stats, rows, reference }) {
      seen.set(path, { linear, reference: await reference(), gram: stats.gram, peak: stats.peak, rows });
      return linear;
    },
  });
  const onEvent = (event: RunEvent): void => void events.push(event);
  const { model } = await quantize({ model: createToyModel({ seed: 4 }), backend, recipe: [...recipe, recording()], calibration, onEvent });
  return { seen, model, events };
}

/** x R in float64, with R written out from its definition. */
function rotatedRows(rows: number[][], rotation: Rotation, matrix: readonly number[]): number[][] {
  const size = rotation.kind === 'matrix' ? 48 : rotation.size;
  const stretch = rotation.kind === 'matrix' ? size : size / rotation.blocks;
  const bits = (i: number): number => [...i.toString(2)].filter((digit) => digit === '1').length;
  const entry = (i: number, j: number): number => {
    if (rotation.kind === 'matrix') return matrix[i * size + j];
    if (Math.floor(i / stretch) !== Math.floor(j / stretch)) return 0;
    return (bits((i % stretch) & (j % stretch)) % 2 === 0 ? 1 : -1) / Math.sqrt(stretch);
  };
  const inner = rows[0].length / size;
  return rows.map((row) =>
    row.map((_, at) => {
      const [j, k] = [Math.floor(at / inner), at % inner];
      let total = 0;
      for (let i = 0; i < size; i++) total += row[i * inner + k] * entry(i, j);
      return total;
    }),
  );
}

/** What each block's groups read, row by row, in float64. */
async function inputsOf(model: Model): Promise<Record<string, number[][]>[]> {
  const traces: Record<string, number[][]>[] = model.blocks.map(() => ({}));
  for (let batch = 0; batch < calibration.length; batch++) {
    let x = model.embedding.forward(await calibration.at(batch));
    for (const [index, block] of model.blocks.entries()) {
      const trace = block.trace(x);
      for (const [group, input] of Object.entries(trace.inputs)) {
        const [data, width] = [await backend.float64(input), input.shape[input.rank - 1]];
        const rows = Array.from({ length: data.length / width }, (_, row) => [...data.subarray(row * width, (row + 1) * width)]);
        traces[index][group] = [...(traces[index][group] ?? []), ...rows];
      }
      x = trace.output;
    }
  }
  return traces;
}

async function expectStatistics({ gram, peak, rows: count }: Seen, rows: readonly number[][]): Promise<void> {
  const [g, p] = [await read(gram), await read(peak)];
  const width = rows[0].length;
  expect([count, gram.shape, peak.shape]).toEqual([rows.length, [width, width], [width]]);
  for (let i = 0; i < width; i++) {
    const largest = Math.max(...rows.map((row) => Math.abs(row[i])));
    expect(Math.abs(p[i] - largest)).toBeLessThan(1e-5 * (1 + largest));
    for (let j = 0; j < width; j++) {
      const expected = rows.reduce((total, row) => total + row[i] * row[j], 0);
      expect(Math.abs(g[i * width + j] - expected)).toBeLessThan(1e-4 * (1 + Math.abs(expected)));
    }
  }
}

describe('a method', () => {
  it('sees the statistics of what the inner layer reads, rotated or cut', async () => {
    const { seen, model } = await seenBy([wrapAll()]);
    const inputs = await inputsOf(model);
    const matrix = [...(await read(turned.kind === 'matrix' ? turned.matrix : tensor([])))];
    for (const [index, block] of model.blocks.entries()) {
      for (const { name: group, linears } of block.groups) {
        for (const name of linears) {
          const one = seen.get(`${block.path}.${name}`) as Seen;
          const cut = inputs[index][group].map((row) => row.slice(COLUMNS));
          if (name.endsWith('o_proj')) await expectStatistics(one, rotatedRows(inputs[index][group], acrossHeads, []));
          else if (name.endsWith('down_proj'))
            await expectStatistics(one, rotatedRows(inputs[index][group], index === 0 ? stretches : turned, matrix));
          else if (name.endsWith('k_proj')) await expectStatistics(one, rotatedRows(cut, { kind: 'hadamard', size: 24, blocks: 3 }, []));
          else await expectStatistics(one, cut);
        }
      }
    }
  });

  it('shares a statistic with the Linears that read the same, and gets the weight that lies inside', async () => {
    const { seen, model } = await seenBy([wrapAll()]);
    const of = (name: string): Seen => seen.get(`model.layers.0.self_attn.${name}`) as Seen;
    expect(of('v_proj').gram).toBe(of('q_proj').gram);
    expect(of('k_proj').gram).not.toBe(of('q_proj').gram);
    for (const [path, { linear, reference }] of seen) {
      expect(linear.kind, path).toBe('dense');
      expect(await read(requireDense(reference, path).weight)).toEqual(await read(requireDense(linear, path).weight));
    }
    expect(of('k_proj').linear.inFeatures).toBe(24);
    expect(model.blocks[0].linears['self_attn.k_proj'].inFeatures).toBe(32);
  });
});

describe('a quantized layer behind a rotation', () => {
  it('is judged by the error of its inner weight over what it reads', async () => {
    const events: RunEvent[] = [];
    const recipe = [wrapAll(), searched({ bits: 3, groupSize: 8 })];
    const { model } = await quantize({
      model: createToyModel({ seed: 4 }),
      backend,
      recipe,
      calibration,
      onEvent: (event) => void events.push(event),
    });
    const path = 'model.layers.0.self_attn.o_proj';
    const done = events.flatMap((event) => (event.type === 'linear-done' && event.path === path ? [event] : []));
    const { seen } = await seenBy([wrapAll(), searched({ bits: 3, groupSize: 8, targets: ['model.layers.0.self_attn.{q,k,v}_proj'] })]);
    const { linear, gram: moments } = seen.get(path) as Seen;
    const wrapper = model.blocks[0].linears['self_attn.o_proj'] as RotatedLinear;
    const inner = (wrapper.base as ActivationQuantizedLinear).base;
    expect([wrapper.kind, wrapper.base.kind, inner.kind]).toEqual(['rotated', 'activation-quantized', 'test-affine']);
    const [was, is, g] = [
      await backend.float64(linear.effectiveWeight()),
      await backend.float64(inner.effectiveWeight()),
      await backend.float64(moments),
    ];
    const energy = (w: (i: number) => number): number => {
      let total = 0;
      for (let row = 0; row < 32; row++)
        for (let i = 0; i < 32; i++) for (let j = 0; j < 32; j++) total += w(row * 32 + i) * g[i * 32 + j] * w(row * 32 + j);
      return total;
    };
    const expected = energy((i) => is[i] - was[i]) / energy((i) => was[i]);
    expect(done[0].error).toBeGreaterThan(0);
    expect(Math.abs((done[0].error as number) - expected)).toBeLessThan(1e-4 * expected);
  });
});

const keyValues: KeyValueQuantization = { bits: 4, clipRatio: 0.95, rotateKeys: true };

/** A block that carries a rounding of keys and values, which toy blocks do not compute. */
function carrying(block: Block, rounding: KeyValueQuantization | undefined): Block {
  const { path, linears, norms, groups, attention } = block;
  return {
    ...{ path, linears, norms, groups, attention, keyValues: rounding },
    forward: (x) => block.forward(x),
    trace: (x) => block.trace(x),
    prefill: (x) => block.prefill(x),
    decode: (x, cache, position) => block.decode(x, cache, position),
    with: ({ keyValues: given, ...parts }) => carrying(block.with(parts), given ?? rounding),
    map: (map) => carrying(block.map(map), rounding),
  };
}

describe('a store', () => {
  const toy = createToyModel({ seed: 4 });
  const model = toy.with({ blocks: toy.blocks.map((block) => carrying(block, undefined)) });
  const recipe = (roundsKeys: boolean): Recipe => [wrapAll({ roundsKeys }), nearest({ bits: 4, groupSize: 8, targets: ['**.0.**'] })];

  it('keeps wrappers and the rounding of keys and values, and gives the same bytes again', async () => {
    const store = memoryStore();
    const bytes = async (of: Model): Promise<unknown[]> =>
      Promise.all([...tensorsOf(of)].map(async ([name, t]) => [name, t.shape, await read(t)]));
    const plain = await quantize({ model, backend, recipe: recipe(true), calibration, seed: 3 });
    const first = await quantize({ model, backend, recipe: recipe(true), calibration, seed: 3, store, kinds });
    let reused = 0;
    const onEvent = (event: RunEvent): void => {
      if (event.type === 'log' && event.record.reusedFromStore) reused++;
    };
    const again = await quantize({ model, backend, recipe: recipe(true), calibration, seed: 3, store, kinds, onEvent });
    // The step after the wrapping finishes both blocks, the one that it does not target too.
    expect(reused).toBe(2);
    for (const run of [first, again]) {
      expect(await bytes(run.model)).toEqual(await bytes(plain.model));
      expect(run.model.blocks.map((block) => block.keyValues)).toEqual([keyValues, keyValues]);
      for (const [i, block] of run.model.blocks.entries()) {
        for (const [name, linear] of Object.entries(block.linears)) expect(linear.kind).toBe(plain.model.blocks[i].linears[name].kind);
      }
    }
    const rotated = again.model.blocks[1].linears['mlp.down_proj'] as RotatedLinear;
    expect(rotated).toBeInstanceOf(RotatedLinear);
    expect(rotated.rotation.kind).toBe('matrix');
  });

  it('tells runs over models with other roundings of keys and values apart', async () => {
    const keyOf = async (rounding: KeyValueQuantization | undefined): Promise<string | undefined> => {
      const blocks = toy.blocks.map((block) => carrying(block, rounding));
      return (await quantize({ model: toy.with({ blocks }), backend, recipe: [nearest()], store: memoryStore() })).runKey;
    };
    const keys = [await keyOf(undefined), await keyOf(keyValues), await keyOf({ ...keyValues, bits: 8 })];
    expect(new Set(keys).size).toBe(3);
    expect(await keyOf({ ...keyValues })).toBe(keys[1]);
  });
});
