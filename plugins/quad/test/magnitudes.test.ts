// What `activations` logs of inputs, against sums and sorted values computed here.
import { type Model, materialize, quantizablePart, type RunEvent, readFloats } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { afterAll, describe, expect, it } from 'vitest';
import { activations, channelShares, type InputMagnitudes, inputMagnitudes, quad, rotate } from '../src/index.js';
import { createBackend } from './llama.js';

const backend = await createBackend();
afterAll(() => backend.dispose());
const model = createToyModel({ hiddenSize: 16, innerSize: 24, blockCount: 2, outliers: 2, seed: 3 });
const calibration = createToyTokens();

/** Of channels' values by their definition, sorted and interpolated. */
function expected(columns: readonly (readonly number[])[]) {
  const at = (values: readonly number[]): number[] => {
    const sorted = values.toSorted((a, b) => a - b);
    return channelShares.map((share) => {
      const position = share * (sorted.length - 1);
      const [low, high] = [sorted[Math.floor(position)], sorted[Math.ceil(position)]];
      return low + (position % 1) * (high - low);
    });
  };
  const square = (values: readonly number[]): number => values.reduce((sum, value) => sum + value * value, 0) / values.length;
  return {
    channels: columns.length,
    tokens: columns[0].length,
    rms: Math.sqrt(square(columns.flat())),
    largest: at(columns.map((column) => Math.max(...column.map(Math.abs)))),
    channelRms: at(columns.map((column) => Math.sqrt(square(column)))),
  };
}

function expectClose(found: InputMagnitudes, wanted: ReturnType<typeof expected>): void {
  const flat = ({ channels, tokens, rms, largest, channelRms }: InputMagnitudes): number[] => [
    channels,
    tokens,
    rms,
    ...largest,
    ...channelRms,
  ];
  const [a, b] = [flat(found), flat(wanted)];
  expect(a).toHaveLength(b.length);
  for (const [i, value] of a.entries()) expect(Math.abs(value / b[i] - 1)).toBeLessThan(1e-3);
}

/** What the part of a layer that is quantized reads of the calibration, a list of values for each channel. */
async function columnsOf(from: Model, path: string): Promise<number[][]> {
  const columns: number[][] = [];
  for (let i = 0; i < calibration.length; i++) {
    let [x] = await backend.evaluate([from.embedding.forward(await calibration.at(i))]);
    for (const lazy of from.blocks) {
      const block = await materialize(lazy);
      const trace = block.trace(x);
      const name = path.slice(block.path.length + 1);
      const group = path.startsWith(`${block.path}.`) && block.groups.find(({ linears }) => linears.includes(name));
      if (group) {
        const { reads, start, end } = quantizablePart(block.linears[name]);
        const input = trace.inputs[group.name];
        const [read] = await backend.evaluate([reads ? reads(input) : input]);
        const width = read.shape[read.rank - 1];
        const values = await readFloats(read);
        for (let channel = start; channel < end; channel++) {
          const own = (columns[channel - start] ??= []);
          for (let at = channel; at < values.length; at += width) own.push(values[at]);
        }
      }
      [x] = await backend.evaluate([trace.output]);
    }
  }
  return columns;
}

async function logged(recipe: Parameters<typeof quantize>[0]['recipe']) {
  const logs = new Map<string, InputMagnitudes>();
  const onEvent = (event: RunEvent): void => {
    if (event.type === 'log' && 'largest' in event.record) logs.set(event.path, event.record as unknown as InputMagnitudes);
  };
  const { model: made } = await quantize({ model, backend, recipe, calibration, onEvent });
  return { logs, made };
}

const unrounded = { activationBits: 16, outputActivationBits: 16, dtype: 'float32' } as const;
const look = activations({ bits: 15, clipRatio: 1, magnitudes: true });

describe('magnitudes', () => {
  it('are of channels over tokens', () => {
    const found = inputMagnitudes(Float32Array.of(3, 1, 8), Float32Array.of(9, 2, 64), 4);
    expect(found).toMatchObject({ channels: 3, tokens: 4, rms: 2.5 });
    expect([found.largest.at(0), found.largest[channelShares.indexOf(0.5)], found.largest.at(-1)]).toEqual([1, 3, 8]);
    expect(found.channelRms.at(-1)).toBe(4);
  });

  it.each([
    ['as they are', []],
    ['rotated', [rotate(unrounded)]],
    ['beside columns in full precision', [quad({ rank: 3, ...unrounded })]],
  ])('are of what a layer rounds: %s', async (_, steps) => {
    const { logs, made } = await logged([...steps, look]);
    expect(logs.size).toBe(14);
    for (const path of ['model.layers.0.self_attn.q_proj', 'model.layers.1.self_attn.o_proj', 'model.layers.1.mlp.down_proj']) {
      expectClose(logs.get(path) as InputMagnitudes, expected(await columnsOf(made, path)));
    }
  });

  it('are not asked for unless wanted, nor is calibration text', async () => {
    const { model: made } = await quantize({ model, backend, recipe: [activations()] });
    expect(made.blocks[0].linears['mlp.down_proj'].kind).toBe('activation-quantized');
    expect((await logged([activations()])).logs.size).toBe(0);
    await expect(quantize({ model, backend, recipe: [look] })).rejects.toMatchObject({ code: 'CALIBRATION_EMPTY' });
  });
});
