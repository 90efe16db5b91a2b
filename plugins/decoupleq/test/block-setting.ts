// A quantized toy block with what a method's refineBlock is given.
import {
  type Backend,
  type Block,
  type BlockContext,
  batchesOf,
  createRng,
  type DenseLinear,
  type Linear,
  readFloats,
  type StoreEntry,
  type Tensor,
  tensor,
} from '@lowbit/core';
import { QuantizedLinear, quantizeWeight } from '@lowbit/quant';
import { createToyModel } from '@lowbit/testkit';
import { type DecoupleqInput, type DecoupleqOptions, decoupleqOptions } from '../src/index.js';

export interface BlockSetting {
  readonly backend: Backend;
  readonly dense: Block;
  readonly quantized: Block;
  readonly inputs: readonly Tensor[];
  readonly targets: readonly Tensor[];
}

export type Zero = 'free' | 'integer' | 'symmetric';

export interface SettingOptions {
  readonly zero?: Zero;
  readonly scaleDtype?: 'float16' | 'float32';
  /** Wraps each quantized layer. */
  readonly wrap?: (linear: QuantizedLinear) => Linear;
}

const WIDTH = 32;

/** Rounds to nearest; a free offset begins where the zero point stands. */
async function rounded(
  backend: Backend,
  linear: DenseLinear,
  { zero, scaleDtype }: Required<Pick<SettingOptions, 'zero' | 'scaleDtype'>>,
): Promise<QuantizedLinear> {
  const { weight } = linear;
  const grid = { bits: 2, groupSize: 16, symmetric: zero === 'symmetric', clip: 'minmax', scaleDtype } as const;
  const affine = quantizeWeight(await readFloats(weight), weight.shape, grid);
  if (zero !== 'free') return new QuantizedLinear(affine, linear.bias);
  const [offset] = await backend.evaluate([affine.effectiveOffset]);
  return new QuantizedLinear(affine.with({ zeroPoint: undefined, offset }), linear.bias);
}

/** A toy block rounded to nearest, and windows of random inputs: batches of two windows of six tokens. */
export async function blockSetting(backend: Backend, options: SettingOptions = {}): Promise<BlockSetting> {
  const { zero = 'free', scaleDtype = 'float16', wrap = (linear) => linear } = options;
  const [dense] = createToyModel({ seed: 7, biases: true }).blocks;
  const linears: Record<string, Linear> = {};
  for (const [name, linear] of Object.entries(dense.linears)) {
    linears[name] = wrap(await rounded(backend, linear as DenseLinear, { zero, scaleDtype }));
  }
  const rng = createRng(5);
  const inputs = Array.from({ length: 4 }, (_, i) => tensor(rng.at('inputs', i).normal(2 * 6 * WIDTH), [2, 6, WIDTH]));
  const targets = await backend.evaluate(inputs.map((x) => dense.forward(x)));
  return { backend, dense, quantized: dense.with({ linears }), inputs, targets };
}

/** What a stage said and saved. */
export interface Recorded {
  readonly context: BlockContext<DecoupleqOptions>;
  readonly logs: Readonly<Record<string, unknown>>[];
  readonly warnings: string[];
  readonly saved: StoreEntry[];
  readonly progress: number[];
}

export function blockContext(
  { backend, quantized, inputs, targets }: BlockSetting,
  input: DecoupleqInput,
  more: Partial<BlockContext<DecoupleqOptions>> = {},
): Recorded {
  const options = decoupleqOptions.parse(input);
  const recorded = { logs: [] as Record<string, unknown>[], warnings: [] as string[], saved: [] as StoreEntry[], progress: [] as number[] };
  const context: BlockContext<DecoupleqOptions> = {
    backend,
    options,
    rng: createRng(9),
    signal: undefined,
    progress: (done, total) => void recorded.progress.push(done / total),
    saved: undefined,
    save: async (entry) => void recorded.saved.push(entry),
    log: (record) => void recorded.logs.push(record),
    warn: (code, message) => void recorded.warnings.push(`${code}: ${message}`),
    path: quantized.path,
    inputs: batchesOf(inputs),
    targets: batchesOf(targets),
    denseTargets: () => Promise.reject(new Error('decoupleQ aims at the block on the quantized stream')),
    reference: () => Promise.reject(new Error('decoupleQ aims at what the block gave')),
    optionsFor: () => options,
    ...more,
  };
  return { context, ...recorded };
}
