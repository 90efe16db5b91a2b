// The toy model: what it promises to the tests that use it.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { type AttentionCache, concat, type Model, read, slice, type Tensor, tensor, tensorsOf } from '@lowbit/core';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';

const backend = createReferenceBackend();

/** Logits by decoding token by token with a cache. */
async function decodeAll(model: Model, tokens: Tensor): Promise<Float64Array> {
  const [batch, length] = tokens.shape;
  const { keyValueHeadCount, headDim } = model.config;
  const empty = (): Tensor =>
    tensor(new Float32Array(batch * keyValueHeadCount * length * headDim), [batch, keyValueHeadCount, length, headDim]);
  const caches: AttentionCache[] = model.blocks.map(() => ({ keys: empty(), values: empty() }));
  const logits: Tensor[] = [];
  for (let position = 0; position < length; position++) {
    let x = model.embedding.forward(slice(tokens, 1, position, position + 1));
    for (const [i, block] of model.blocks.entries()) {
      const step = block.decode(x, caches[i], tensor(Int32Array.of(position), []));
      const write = (buffer: Tensor, entry: Tensor): Tensor =>
        concat(
          [
            ...(position > 0 ? [slice(buffer, 2, 0, position)] : []),
            entry,
            ...(position + 1 < length ? [slice(buffer, 2, position + 1, length)] : []),
          ],
          2,
        );
      const [keys, values, output] = await backend.evaluate([
        write(caches[i].keys, step.keys),
        write(caches[i].values, step.values),
        step.output,
      ]);
      caches[i] = { keys, values };
      x = output;
    }
    logits.push(model.logits(x));
  }
  return backend.float64(concat(logits, 1));
}

describe('createToyModel', () => {
  it('gives the same weights for a seed and others for another', async () => {
    const weight = (seed: number): Promise<unknown> => read(tensorsOf(createToyModel({ seed })).get('model.layers.1.mlp.up_proj.weight')!);
    expect(await weight(1)).toEqual(await weight(1));
    expect(await weight(1)).not.toEqual(await weight(2));
  });

  it('puts every Linear into exactly one group, with the inputs that trace reports', async () => {
    const [block] = createToyModel().blocks;
    expect(block.groups.flatMap((group) => group.linears).sort()).toEqual(Object.keys(block.linears).sort());
    const { inputs } = block.trace(tensor(new Float32Array(2 * 5 * 32), [2, 5, 32]));
    for (const group of block.groups) {
      for (const name of group.linears) expect(inputs[group.name].shape).toEqual([2, 5, block.linears[name].inFeatures]);
    }
  });

  it('says what its norms read and how attention divides, and refuses to round keys and values', async () => {
    const [block] = createToyModel({ seed: 3 }).blocks;
    const { inputs, normInputs } = block.trace(
      tensor(
        Float32Array.from({ length: 160 }, (_, i) => Math.sin(i)),
        [1, 5, 32],
      ),
    );
    for (const { name, reads } of block.groups) {
      if (!('norm' in reads)) continue;
      const normed = block.norms[reads.norm].forward(normInputs[reads.norm]);
      expect(await backend.float64(normed)).toEqual(await backend.float64(inputs[name]));
    }
    const { query, key, value, output, headCount, keyValueHeadCount, headDim } = block.attention;
    expect([query, key, value].map((name) => block.linears[name].outFeatures / headDim)).toEqual([
      headCount,
      keyValueHeadCount,
      keyValueHeadCount,
    ]);
    expect(block.linears[output].inFeatures).toBe(headCount * headDim);
    expect(() => block.with({ keyValues: { bits: 4, clipRatio: 1, rotateKeys: false } })).toThrow(
      /^BLOCK_PART: model\.layers\.0: .*keys and values/,
    );
  });

  it('decodes with a cache what it computes at once', async () => {
    const model = createToyModel({ seed: 3, biases: true });
    const tokens = await createToyTokens({ batchCount: 1, tokens: 5 }).at(0);
    const [atOnce, stepwise] = [await backend.float64(model.forward(tokens)), await decodeAll(model, tokens)];
    for (let i = 0; i < atOnce.length; i++) expect(stepwise[i]).toBeCloseTo(atOnce[i], 5);
  });

  it('is causal', async () => {
    const model = createToyModel();
    const logits = async (last: number): Promise<Float64Array> =>
      (await backend.float64(model.forward(tensor(Int32Array.of(1, 2, 3, last), [1, 4])))).subarray(0, 3 * 64);
    expect(await logits(4)).toEqual(await logits(5));
  });

  it('has channels with outliers where asked', async () => {
    const peaks = async (outliers: number): Promise<number[]> => {
      const values = await read(createToyModel({ outliers }).embedding.weight);
      const perChannel = Array.from({ length: 32 }, (_, c) =>
        Math.max(...Array.from({ length: 64 }, (_, row) => Math.abs(values[row * 32 + c]))),
      );
      return perChannel.filter((peak) => peak > 10);
    };
    expect(await peaks(0)).toHaveLength(0);
    expect(await peaks(3)).toHaveLength(3);
  });

  it('reads a lazy weight when it is touched, and shares a tied one', async () => {
    const loaded: string[] = [];
    const model = createToyModel({ onLoad: (name) => loaded.push(name), tiedEmbeddings: true });
    model.forward(tensor(Int32Array.of(1, 2), [1, 2]));
    expect(loaded).toEqual([]);
    await read(tensorsOf(model.blocks[0]).get('mlp.up_proj.weight')!);
    expect(loaded).toEqual(['model.layers.0.mlp.up_proj.weight']);
    expect([...tensorsOf(model).keys()].filter((name) => name.startsWith('lm_head'))).toEqual([]);
  });

  it('names an unknown part', () => {
    const [block] = createToyModel().blocks;
    expect(() => block.with({ norms: { 'mlp.norm': block.norms['input_layernorm'] } })).toThrow(
      expect.objectContaining({ code: 'BLOCK_PART' }),
    );
  });
});
