// Models, their parts and their tensors: immutable trees whose leaves are read when touched.
import { describe, expect, it } from 'vitest';
import {
  add,
  type Block,
  createRng,
  DenseLinear,
  Embedding,
  type LinearKinds,
  type LinearState,
  lazyTensor,
  Model,
  materialize,
  Norm,
  read,
  readFloats,
  readNumber,
  requireDense,
  restoreLinear,
  type Tensor,
  tensor,
  tensorsOf,
} from '../src/index.js';
import { interpret } from './interpret.js';

const leaf = (name: string, ...shape: number[]): Tensor =>
  tensor(
    createRng(1)
      .at(name)
      .normal(shape.reduce((a, b) => a * b, 1)),
    shape,
  );

/** x + norm(x) Wᵀ: a block of one Linear. */
function residualBlock(path: string, linear: DenseLinear, norm: Norm): Block {
  const block: Pick<Block, 'path' | 'linears' | 'norms' | 'groups' | 'forward' | 'map'> = {
    path,
    linears: { mix: linear },
    norms: { norm },
    groups: [{ name: 'mix', linears: ['mix'], reads: { norm: 'norm' }, writesResidual: true }],
    forward: (x) => add(x, linear.forward(norm.forward(x))),
    map: (map) =>
      residualBlock(
        path,
        linear.map((t, name) => map(t, `mix.${name}`)),
        norm.map((t, name) => map(t, `norm.${name}`)),
      ),
  };
  return block as Block;
}

function smallModel({ isTied = false, weight = (name: string, ...shape: number[]): Tensor => leaf(name, ...shape) } = {}): Model {
  const embedding = new Embedding(weight('embed', 5, 4));
  return new Model({
    config: {
      architecture: 'small',
      vocabularySize: 5,
      hiddenSize: 4,
      blockCount: 2,
      headCount: 1,
      keyValueHeadCount: 1,
      headDim: 4,
      contextLength: 8,
      tiedEmbeddings: isTied,
      source: {},
    },
    embedding,
    blocks: [0, 1].map((i) =>
      residualBlock(`model.layers.${i}`, new DenseLinear(weight(`mix${i}`, 4, 4)), new Norm('rms', 4, 1e-5, weight(`norm${i}`, 4))),
    ),
    norm: new Norm('rms', 4, 1e-5, weight('norm', 4)),
    head: new DenseLinear(isTied ? embedding.weight : weight('head', 5, 4)),
  });
}

describe('Model', () => {
  it('forward is embedding, blocks, norm, head', async () => {
    const model = smallModel();
    const tokens = tensor(Int32Array.of(1, 4, 0), [1, 3]);
    const [[x], [w0], [g0], [w1], [g1], [g], [h]] = [
      await interpret(model.embedding.forward(tokens)),
      ...(await Promise.all(
        ['mix0', 'norm0', 'mix1', 'norm1', 'norm'].map((name) => interpret(leaf(name, name.startsWith('mix') ? 16 : 4))),
      )),
      await interpret(leaf('head', 20)),
    ];
    const normed = (row: number[], gamma: Float64Array): number[] => {
      const r = 1 / Math.sqrt(row.reduce((total, v) => total + v * v, 0) / 4 + 1e-5);
      return row.map((v, i) => v * r * gamma[i]);
    };
    const times = (row: number[], w: Float64Array): number[] =>
      Array.from({ length: w.length / 4 }, (_, o) => row.reduce((total, v, i) => total + v * w[o * 4 + i], 0));
    const [logits] = await interpret(model.forward(tokens));
    for (let t = 0; t < 3; t++) {
      let row = [...x.subarray(t * 4, t * 4 + 4)];
      for (const [w, gamma] of [
        [w0, g0],
        [w1, g1],
      ]) {
        const change = times(normed(row, gamma), w);
        row = row.map((v, i) => v + change[i]);
      }
      times(normed(row, g), h).forEach((expected, i) => {
        expect(logits[t * 5 + i]).toBeCloseTo(expected, 10);
      });
    }
  });

  it('names its tensors by path, a shared one once', () => {
    const own = [
      'model.embed_tokens.weight',
      ...[0, 1].flatMap((i) => [`model.layers.${i}.mix.weight`, `model.layers.${i}.norm.weight`]),
      'model.norm.weight',
    ];
    expect([...tensorsOf(smallModel()).keys()]).toEqual([...own, 'lm_head.weight']);
    expect([...tensorsOf(smallModel({ isTied: true })).keys()]).toEqual(own);
  });

  it('maps a shared tensor once, so that it stays shared', () => {
    const mapped = smallModel({ isTied: true }).map((t) => tensor(new Float32Array(t.size), t.shape));
    expect(requireDense(mapped.head, 'head').weight).toBe(mapped.embedding.weight);
  });

  it('changes by making new trees', () => {
    const model = smallModel();
    const other = residualBlock('model.layers.1', new DenseLinear(leaf('other', 4, 4)), model.blocks[1].norms['norm']);
    const changed = model.withBlock(1, other);
    expect(changed.blocks).toEqual([model.blocks[0], other]);
    expect(model.blocks[1]).not.toBe(other);
    expect([changed.embedding, changed.norm, changed.head]).toEqual([model.embedding, model.norm, model.head]);
    expect(model.with({ norm: model.norm.with({ weight: undefined }) }).norm.weight).toBeUndefined();
  });
});

describe('materialize', () => {
  it('fetches each lazy tensor once, also one that two places share', async () => {
    const fetched: string[] = [];
    const weight = (name: string, ...shape: number[]): Tensor =>
      lazyTensor(shape, 'float32', async () => {
        fetched.push(name);
        return readFloats(leaf(name, ...shape));
      });
    const model = smallModel({ isTied: true, weight });
    model.forward(tensor(Int32Array.of(1), [1, 1]));
    expect(fetched).toEqual([]);
    const held = await materialize(model);
    expect(fetched.sort()).toEqual(['embed', 'mix0', 'mix1', 'norm', 'norm0', 'norm1']);
    expect(requireDense(held.head, 'head').weight).toBe(held.embedding.weight);
    await interpret(held.forward(tensor(Int32Array.of(1), [1, 1])));
    expect(fetched).toHaveLength(6);
  });

  it('keeps tensors that are in memory, and refuses one that is not computed', async () => {
    const model = smallModel();
    expect((await materialize(model)).embedding.weight).toBe(model.embedding.weight);
    const pending = model.with({ norm: model.norm.with({ weight: add(leaf('norm', 4), 1) }) });
    await expect(materialize(pending)).rejects.toMatchObject({
      code: 'TENSOR_NOT_EVALUATED',
      message: expect.stringContaining('model.norm.weight'),
    });
  });
});

describe('DenseLinear', () => {
  const weight = leaf('w', 3, 2);
  const bias = leaf('b', 3);

  it('computes x Wᵀ + b', async () => {
    const [[w], [b], [y]] = await Promise.all([
      interpret(weight),
      interpret(bias),
      interpret(new DenseLinear(weight, bias).forward(tensor([1, 10], [1, 1, 2]))),
    ]);
    expect([...y]).toEqual([0, 1, 2].map((o) => w[o * 2] + 10 * w[o * 2 + 1] + b[o]));
  });

  it('counts bits as its checkpoint stores them, and restores from its state', () => {
    const linear = new DenseLinear(weight, bias, 32);
    expect([linear.inFeatures, linear.outFeatures, linear.storageBits]).toEqual([2, 3, 192]);
    const state: LinearState = { ...linear.state(), attributes: JSON.parse(JSON.stringify(linear.state().attributes)) };
    expect(restoreLinear(state, {})).toEqual(linear);
    expect(linear.withWeight(leaf('v', 3, 2))).toMatchObject({ bias, bitsPerElement: 32 });
  });

  it('refuses a weight or bias of the wrong form', () => {
    expect(() => new DenseLinear(bias)).toThrow(expect.objectContaining({ code: 'SHAPE_WEIGHT' }));
    expect(() => new DenseLinear(weight, leaf('b', 2))).toThrow(expect.objectContaining({ code: 'SHAPE_BIAS' }));
  });
});

describe('restoreLinear', () => {
  it('rebuilds wrapped parts, and names a kind that nobody knows', () => {
    const base = new DenseLinear(leaf('w', 3, 2));
    const kinds: LinearKinds = { wrapper: ({ parts }, restore) => restore(parts!.base) };
    const state = (kind: string): LinearState => ({ kind, attributes: {}, tensors: {}, parts: { base: base.state() } });
    expect(restoreLinear(state('wrapper'), kinds)).toEqual(base);
    expect(() => restoreLinear(state('secret'), kinds)).toThrow(
      expect.objectContaining({ code: 'LINEAR_KIND', message: expect.stringMatching(/'secret'.*dense, wrapper/) }),
    );
  });
});

describe('Norm', () => {
  it('divides by its own size, not by the width that goes by', async () => {
    const x = tensor([3, 4, 0, 0, 0, 0], [1, 6]);
    const [y] = await interpret(new Norm('rms', 4, 0).forward(x));
    expect(y[0]).toBeCloseTo(3 / Math.sqrt(25 / 4), 12);
    const [layer] = await interpret(new Norm('layer', 2, 0, tensor([2, 2]), tensor([1, 1])).forward(tensor([1, 3], [1, 2])));
    expect([...layer]).toEqual([-1, 3]);
  });
});

describe('leaves', () => {
  it('hold numbers and typed arrays as they are given', async () => {
    const data = Int8Array.of(1, -2, 3, 4);
    expect(tensor(data, [2, 2])).toMatchObject({ shape: [2, 2], dtype: 'int8', isLeaf: true, rank: 2, size: 4 });
    expect(await read(tensor(data))).toBe(data);
    expect(tensor(5)).toMatchObject({ shape: [], dtype: 'float32' });
    expect(await readNumber(tensor(5))).toBe(5);
    expect(tensor([1, 0], [2], 'bool').dtype).toBe('bool');
  });

  it('are refused where they do not fit', async () => {
    expect(() => tensor([1, 2, 3], [2, 2])).toThrow(expect.objectContaining({ code: 'SHAPE_DATA' }));
    await expect(read(add(tensor(1), 1))).rejects.toMatchObject({ code: 'TENSOR_NOT_EVALUATED', message: expect.stringContaining('add') });
    await expect(read(lazyTensor([3], 'float32', () => new Float32Array(2)))).rejects.toMatchObject({ code: 'TENSOR_LOAD' });
    await expect(readFloats(tensor(Int32Array.of(1)))).rejects.toMatchObject({ code: 'DTYPE' });
    await expect(readNumber(tensor([1, 2]))).rejects.toMatchObject({ code: 'SHAPE_SCALAR' });
  });
});
