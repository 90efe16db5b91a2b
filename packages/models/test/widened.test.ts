// Models with a widened stream, columns in full precision, online rotations and rounded keys: saved, loaded, decoded, made dense.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { argmax, createRng, DenseLinear, type KeyValueQuantization, type Model, read, readFloats, slice, tensor } from '@lowbit/core';
import { openCheckpoint, saveCheckpoint } from '@lowbit/formats';
import { RotatedLinear, SplitLinear } from '@lowbit/quant';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { densify, generate, loadModel } from '../src/index.js';
import { randomCheckpoint, type SmallConfig, smallConfig } from './memory-checkpoint.js';
import { type Widening, widened } from './widened-model.js';

const backend = createReferenceBackend();
const onnx = await createOnnxBackend({ threads: 1 });
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowbit-widened-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
  await onnx.dispose();
});

const keyValues: KeyValueQuantization = { bits: 4, clipRatio: 0.95, rotateKeys: true };
const tokens = tensor(createRng(2).integers(16, smallConfig.vocab_size), [2, 8]);
const logits = async (model: Model): Promise<Float32Array> => readFloats((await backend.evaluate([model.forward(tokens)]))[0]);
const make = async (widening: Widening, config: SmallConfig = smallConfig, biased: readonly string[] = []): Promise<Model> =>
  widened(await loadModel(randomCheckpoint(config, { biased })), backend, widening);

const models: Record<string, () => Promise<Model>> = {
  'of a wider stream': () => make({ rank: 6 }),
  'of the same width, rotated': () => make({ rank: 0 }),
  'with quantized weights and activations': () => make({ rank: 6, weightBits: 4, activationBits: 4 }),
  'with rounded keys and values besides': () => make({ rank: 6, weightBits: 4, activationBits: 8, keyValues }),
  'with dense weights and rounded keys and values': async () => {
    const model = await loadModel(randomCheckpoint(smallConfig));
    return model.with({ blocks: model.blocks.map((block, i) => (i === 1 ? block.with({ keyValues }) : block)) });
  },
  'of tied embeddings and biases': () =>
    make({ rank: 4, weightBits: 4, activationBits: 8 }, { ...smallConfig, model_type: 'qwen2', tie_word_embeddings: true }, [
      'self_attn.q_proj',
      'self_attn.k_proj',
      'self_attn.v_proj',
    ]),
};

it('widening and rotating by themselves change nothing', async () => {
  const original = await logits(await loadModel(randomCheckpoint(smallConfig)));
  const same = await logits(await make({ rank: 6 }));
  // The columns are rounded to float16.
  original.forEach((value, i) => {
    expect(Math.abs(value - same[i])).toBeLessThan(5e-3);
  });
});

describe.each(Object.entries(models))('a model %s', (name, build) => {
  const at = (what: string): string => join(folder, `${name} ${what}`);

  it('computes the same to the bit after it was saved and loaded', async () => {
    const model = await build();
    await saveCheckpoint(at('saved'), model);
    const loaded = await loadModel(await openCheckpoint(at('saved')));
    expect(await logits(loaded)).toEqual(await logits(model));
    expect(loaded.width).toBe(model.width);
    expect(loaded.config).toMatchObject({ hiddenSize: 24, tiedEmbeddings: false });
    expect([loaded.norm, ...Object.values(loaded.blocks[0].norms)].map(({ size }) => size)).toEqual([24, 24, 24]);
    expect(loaded.blocks.map((block) => block.keyValues)).toEqual(model.blocks.map((block) => block.keyValues));
    for (const [i, block] of loaded.blocks.entries()) {
      for (const [linear, { kind, storageBits }] of Object.entries(block.linears)) {
        const original = model.blocks[i].linears[linear];
        expect(kind).toBe(original.kind);
        // A dense layer counts the bits of its stored elements, which a file of float32 says.
        if (kind !== 'dense') expect(storageBits).toBe(original.storageBits);
      }
    }
    await saveCheckpoint(at('again'), loaded);
    for (const file of ['config.json', 'model.safetensors']) {
      expect(await readFile(join(at('again'), file))).toEqual(await readFile(join(at('saved'), file)));
    }
  });

  it('decodes what it computes at once', async () => {
    const model = await build();
    const prompt = Int32Array.of(3, 1, 4, 1, 5);
    const [continuation] = await generate(model, onnx, { prompts: [prompt], maxTokens: 12 });
    const all = Int32Array.from([...prompt, ...continuation]);
    const [expected] = await onnx.evaluate([
      argmax(slice(model.forward(tensor(all, [1, all.length])), 1, prompt.length - 1, all.length - 1)),
    ]);
    expect([...continuation]).toEqual([...(await read(expected))]);
  });

  it('computes the same with dense weights', async () => {
    const model = await build();
    const dense = await densify(model, backend);
    const [expected, actual] = [await logits(model), await logits(dense)];
    actual.forEach((value, i) => {
      expect(Math.abs(value - expected[i])).toBeLessThan(1e-4);
    });
    for (const linear of Object.values(dense.blocks[0].linears)) expect(linear.effectiveWeight().shape).toHaveLength(2);
  });
});

describe('densify', () => {
  it('merges what reads its input as it is, and keeps what does not around a dense layer', async () => {
    const weightOnly = await densify(await make({ rank: 6, weightBits: 4 }), backend);
    for (const linear of Object.values(weightOnly.blocks[0].linears)) expect(linear).toBeInstanceOf(DenseLinear);
    const rounding = await densify(await make({ rank: 6, weightBits: 4, activationBits: 4 }), backend);
    const { 'self_attn.q_proj': split, 'mlp.down_proj': rotated } = rounding.blocks[0].linears;
    expect([split, rotated].map((linear) => linear.constructor)).toEqual([SplitLinear, RotatedLinear]);
    expect([split, rotated].map((linear) => linear.quantizable?.linear.kind)).toEqual(['dense', 'dense']);
  });
});

describe('config.json', () => {
  const changed = async (change: (lowbit: Record<string, unknown>) => void): Promise<Model> => {
    const directory = join(folder, 'changed');
    await saveCheckpoint(directory, await make({ rank: 6, keyValues }), { overwrite: true });
    const config = JSON.parse(await readFile(join(directory, 'config.json'), 'utf8')) as { lowbit: Record<string, unknown> };
    change(config.lowbit);
    await writeFile(join(directory, 'config.json'), JSON.stringify(config));
    return loadModel(await openCheckpoint(directory));
  };

  it.each<[what: string, message: RegExp, change: (lowbit: Record<string, unknown>) => void]>([
    [
      'no width',
      /^TENSOR_SHAPE: .*model\.embed_tokens\.weight: has shape \[37, 30\] where config\.json says \[37, 24\]/,
      (l) => void delete l.residualWidth,
    ],
    ['another width', /^TENSOR_SHAPE: .*\[37, 30\] where config\.json says \[37, 31\]/, (l) => void (l.residualWidth = 31)],
    ['less than the hidden size', /^MODEL_CONFIG: .*residualWidth 16 is less than hidden_size 24/, (l) => void (l.residualWidth = 16)],
    ['a width that is none', /^CONFIG_JSON: .*lowbit: residualWidth/, (l) => void (l.residualWidth = 2.5)],
    [
      'bits out of range',
      /^CONFIG_JSON: .*keyValues\.model\.layers\.0\.bits/,
      (l) => void (l.keyValues = { 'model.layers.0': { ...keyValues, bits: 40 } }),
    ],
    [
      'a setting that is not known',
      /^CONFIG_JSON: .*keyValues/,
      (l) => void (l.keyValues = { 'model.layers.0': { ...keyValues, groupSize: 3 } }),
    ],
    [
      'a block that is not there',
      /^MODEL_CONFIG: .*keyValues names 'model\.layers\.7'/,
      (l) => void (l.keyValues = { 'model.layers.7': keyValues }),
    ],
  ])('with %s is refused', async (_what, message, change) => {
    await expect(changed(change)).rejects.toThrow(message);
  });

  it('has the first version where its readers understand it, and the second where they would not', async () => {
    const versionOf = async (model: Model): Promise<unknown> => {
      await saveCheckpoint(join(folder, 'version'), model, { overwrite: true });
      const config = JSON.parse(await readFile(join(folder, 'version', 'config.json'), 'utf8')) as Record<
        string,
        { formatVersion: number }
      >;
      return [config.lowbit?.formatVersion, config.quantization_config];
    };
    const refusing = { quant_method: 'lowbit' };
    expect(await versionOf(await make({ rank: 0, activationBits: 4 }))).toEqual([1, refusing]);
    expect(await versionOf(await make({ rank: 6 }))).toEqual([2, refusing]);
    expect(await versionOf(await models['with dense weights and rounded keys and values']())).toEqual([2, refusing]);
    expect(await versionOf(await loadModel(randomCheckpoint(smallConfig)))).toEqual([undefined, undefined]);
  });
});
