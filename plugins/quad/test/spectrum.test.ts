// Energy by rank and bands of inputs, against sums and sorted values computed here.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, type Model, materialize, readFloats, type TokenBatches } from '@lowbit/core';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { activationSpectrum, bandNames, bandRows, bandsOver, channelBands, energyRows } from '../src/index.js';

const backend = createReferenceBackend();
const WIDTH = 16;
const model = createToyModel({ hiddenSize: WIDTH, innerSize: 24, blockCount: 4, outliers: 2, seed: 3 });
const batches = createToyTokens();
const rng = createRng(0);

/** The numpy definition, from a sorted copy. */
function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const position = share * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(position)], sorted[Math.ceil(position)]];
  return low + (position - Math.floor(position)) * (high - low);
}

describe('bands of channels', () => {
  it('are percentiles over all tokens, however those are split into parts', () => {
    const numbers = fc.array(fc.float({ noNaN: true, min: -100, max: 100 }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(numbers, fc.nat(40), (values, cut) => {
        const [a, b] = [values.slice(0, cut), values.slice(cut)];
        // Two channels, of which the second is the first negated.
        const parts = [a, b].map((part) => Float32Array.from([...part, ...part.map((value) => -value)]));
        const bands = channelBands(parts, 2);
        for (const [i, share] of [0, 0.01, 0.25, 0.75, 0.99, 1].entries()) {
          const name = bandNames[i];
          expect(bands[name][0]).toBeCloseTo(percentile(values, share), 3);
          expect(bands[name][1]).toBeCloseTo(-percentile(values, 1 - share), 3);
        }
      }),
    );
  });

  it('of a stretch of channels are its extremes and the means of its percentiles', () => {
    const bands = channelBands([Float32Array.of(0, 4, 10, 20, -3, -1)], 3);
    expect(bandsOver(bands, 0, 2)).toMatchObject({ min: 0, max: 20, p25: (1 + 12.5) / 2 });
    expect(bandsOver(bands, 2, 3)).toMatchObject({ min: -3, max: -1, p75: -1.5 });
  });
});

/** What every norm of a model reads or gives, and the inputs of one group, from traces of the whole model. */
async function traced(from: Model, tokens: TokenBatches) {
  const rows = { pre: [] as number[][], post: [] as number[][] };
  const inputs = new Map<string, number[][]>();
  for (let i = 0; i < tokens.length; i++) {
    let [x] = await backend.evaluate([from.embedding.forward(await tokens.at(i))]);
    for (const lazy of from.blocks) {
      const block = await materialize(lazy);
      const trace = block.trace(x);
      for (const [name, group] of [['input_layernorm', 'attention'] as const, ['post_attention_layernorm', 'mlp'] as const]) {
        const norm = block.norms[name];
        const [read, input] = await backend.evaluate([trace.normInputs[name], trace.inputs[group]]);
        const values = chunks(await readFloats(read));
        rows.pre.push(...values);
        const scales = values.map((row) => 1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / WIDTH + norm.epsilon));
        rows.post.push(...values.map((row, t) => row.map((v) => v * scales[t])));
        const key = `${block.path} ${group}`;
        inputs.set(key, [...(inputs.get(key) ?? []), ...chunks(await readFloats(input))]);
      }
      [x] = await backend.evaluate([trace.output]);
    }
  }
  return { rows, inputs };
}

function chunks(values: Float32Array): number[][] {
  return Array.from({ length: values.length / WIDTH }, (_, i) => [...values.subarray(i * WIDTH, (i + 1) * WIDTH)]);
}

/** Largest eigenvalue of Σ xxᵀ over its trace, by power iteration. */
function leadingShare(rows: readonly (readonly number[])[]): number {
  let v = Array.from({ length: WIDTH }, (_, i) => 1 + i / WIDTH);
  for (let step = 0; step < 500; step++) {
    const image = new Array<number>(WIDTH).fill(0);
    for (const row of rows) {
      const along = row.reduce((sum, x, i) => sum + x * v[i], 0);
      for (const [i, x] of row.entries()) image[i] += along * x;
    }
    const length = Math.hypot(...image);
    v = image.map((x) => x / length);
  }
  const captured = rows.reduce((sum, row) => sum + row.reduce((dot, x, i) => dot + x * v[i], 0) ** 2, 0);
  return captured / rows.reduce((sum, row) => sum + row.reduce((square, x) => square + x * x, 0), 0);
}

describe('the spectrum of a model', () => {
  it('has the energy of what norms read and give, and the bands of what is read at a quarter, half and three quarters of the depth', async () => {
    let last = [0, 1];
    const progress = (done: number, total: number): void => {
      expect(done).toBeGreaterThan(last[0]);
      last = [done, total];
    };
    const spectrum = await activationSpectrum(model, backend, batches, { rank: 3, rng, progress });
    expect(last[0]).toBe(last[1]);
    expect(spectrum).toMatchObject({ width: WIDTH, tokens: 72, rank: 3 });
    const { rows, inputs } = await traced(model, batches);

    const { energy } = spectrum;
    expect(energy.map(({ rank }) => rank)).toEqual([1, 2, 3, 4, 8, 16]);
    expect(energy[0].pre).toBeCloseTo(leadingShare(rows.pre), 4);
    expect(energy[0].post).toBeCloseTo(leadingShare(rows.post), 4);
    for (const site of ['pre', 'post'] as const) {
      for (let i = 1; i < energy.length; i++) expect(energy[i][site]).toBeGreaterThanOrEqual(energy[i - 1][site]);
      expect(energy[energy.length - 1][site]).toBeCloseTo(1, 5);
    }
    expect(energyRows(spectrum)).toHaveLength(12);

    expect(spectrum.inputs.map(({ block, input, basis }) => [block, input, basis])).toEqual(
      [1, 2, 3].flatMap((depth) =>
        ['q_proj, k_proj, v_proj', 'gate_proj, up_proj'].flatMap((input) =>
          ['raw', 'rotated', 'decomposed'].map((basis) => [model.blocks[depth].path, input, basis]),
        ),
      ),
    );
    for (const { block, input, basis, bands } of spectrum.inputs) {
      if (basis !== 'raw') continue;
      const values = inputs.get(`${block} ${input.startsWith('q') ? 'attention' : 'mlp'}`) as number[][];
      for (let channel = 0; channel < WIDTH; channel++) {
        const column = values.map((row) => row[channel]);
        expect(bands.max[channel]).toBeCloseTo(Math.max(...column), 4);
        expect(bands.p25[channel]).toBeCloseTo(percentile(column, 0.25), 4);
      }
    }
  });

  it('rotates outliers away, and takes their energy out', async () => {
    const { inputs } = await activationSpectrum(model, backend, batches, { rank: 3, rng });
    const peak = (at: number): number => {
      const { bands, outliers, channels } = inputs[at];
      const { min, max } = bandsOver(bands, outliers, channels);
      return Math.max(-min, max);
    };
    const bulk = (at: number): number => {
      const { p1, p99 } = bandsOver(inputs[at].bands, inputs[at].outliers, inputs[at].channels);
      return p99 - p1;
    };
    for (let at = 0; at < inputs.length; at += 3) {
      expect(inputs[at + 2]).toMatchObject({ outliers: 3, channels: WIDTH + 3 });
      expect(peak(at + 1)).toBeLessThan(peak(at));
      expect(peak(at + 2)).toBeLessThan(peak(at + 1));
      expect(bulk(at + 2)).toBeLessThan(bulk(at + 1));
    }
  });

  it('has nothing left beside all directions', async () => {
    const { inputs } = await activationSpectrum(model, backend, batches, { rank: WIDTH, rng });
    for (const { basis, bands, outliers, channels } of inputs) {
      if (basis !== 'decomposed') continue;
      const { min, max } = bandsOver(bands, outliers, channels);
      expect(Math.max(-min, max)).toBeLessThan(1e-4);
    }
  });

  it('draws neighbouring channels of wide models together, outliers apart from the others', () => {
    const channels = 1000;
    const bands = channelBands([Float32Array.from({ length: channels }, (_, channel) => channel)], channels);
    const input = { block: 'layers.7', input: 'q_proj', basis: 'decomposed', outliers: 6, channels, bands } as const;
    const rows = bandRows({ width: 994, tokens: 1, rank: 6, energy: [], inputs: [input] });
    expect(rows).toHaveLength(2 + Math.ceil(994 / 4));
    expect(rows[1]).toMatchObject({ input: 'layers.7: q_proj', part: 'full precision', channel: -1.5, min: 4, max: 5 });
    expect(rows[2]).toMatchObject({ part: 'rounded', channel: 1.5, min: 6, p25: 7.5, max: 9 });
  });

  it.each([0, WIDTH + 1, 1.5])('refuses %d directions', async (rank) => {
    await expect(activationSpectrum(model, backend, batches, { rank, rng })).rejects.toMatchObject({ code: 'SPECTRUM_RANK' });
  });
});
