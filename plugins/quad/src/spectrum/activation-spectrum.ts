// What the residual stream of a model looks like to QUAD: the energy that few directions hold, and what rotations leave of outliers.
import { type Backend, LowbitError, type Model, materialize, type Rng, type Tensor, type TokenBatches, throwIfAborted } from '@lowbit/core';
import { energyCaptured, outlierBasis } from '../basis/basis.js';
import { type GramSite, residualGrams } from '../basis/gram.js';
import { type InputBands, inputBands } from './input-bands.js';
import { type StreamIsometries, streamIsometries } from './stream-isometries.js';

export interface SpectrumOptions {
  /** Directions taken out in the basis 'decomposed': 1 to the stream's width. They hold most of the energy of what norms read. */
  readonly rank: number;
  /** Of the rotation's signs and of the eigenvalue iteration's start. */
  readonly rng: Rng;
  readonly signal?: AbortSignal | undefined;
  /** Called after each batch of each block, twice over the model at most. */
  readonly progress?: ((done: number, total: number) => void) | undefined;
}

/** Share of the stream's energy, over all norms and tokens, within its `rank` directions of most energy. */
export interface EnergyAtRank {
  readonly rank: number;
  /** Of what norms read: a token counts by its energy. */
  readonly pre: number;
  /** Of what they give, without their weight: all tokens count alike. */
  readonly post: number;
}

export interface ActivationSpectrum {
  readonly width: number;
  readonly tokens: number;
  readonly rank: number;
  /** At 1, 2, 4, … directions, and at `rank`. */
  readonly energy: readonly EnergyAtRank[];
  /** Of the blocks at a quarter, a half and three quarters of the depth. */
  readonly inputs: readonly InputBands[];
}

/** Energies are given up to here, or up to the rank where that is more. */
const LARGEST_RANK = 128;

/**
 * Energy by rank, and bands of what attention and MLP read raw, rotated, and decomposed and rotated (figures of QUAD, arXiv 2503.19353).
 * Weights of one block are in memory at a time, and one input of all tokens.
 * @throws as `checkSpectrumRank`; CALIBRATION_EMPTY without batches.
 */
export async function activationSpectrum(
  model: Model,
  backend: Backend,
  batches: TokenBatches,
  { rank, rng, signal, progress }: SpectrumOptions,
): Promise<ActivationSpectrum> {
  checkSpectrumRank(model, rank);
  const { width } = model;
  const depths = inspectedDepths(model.blocks.length);
  const total = (model.blocks.length + depths[depths.length - 1] + 1) * batches.length;
  const from = (blocks: number) => (done: number) => progress?.(blocks * batches.length + done, total);

  const largest = Math.min(width, Math.max(rank, LARGEST_RANK));
  const pass = { backend, calibration: batches, windows: Infinity, asReference: false, signal, onBatch: from(0) };
  const grams = await residualGrams(model, ['pre', 'post'], pass);
  const captured = async (site: GramSite) => {
    const gram = grams[site];
    const { columns } = await outlierBasis({ backend, kind: 'svd', width, rank: largest, gram, rng: rng.at('eigenvectors', site) });
    return { columns, shares: energyCaptured(gram, Float64Array.from(columns), largest) };
  };
  const [pre, post] = [await captured('pre'), await captured('post')];

  const isometries = await streamIsometries(backend, leadingColumns(pre.columns, largest, rank), width, rng.at('rotation'));
  const inputs = await bandsAt(depths, model, backend, batches, isometries, { signal, onBatch: from(model.blocks.length) });
  return {
    width,
    tokens: grams.pre.tokens,
    rank,
    energy: ranksUpTo(largest, rank).map((r) => ({ rank: r, pre: pre.shares[r - 1], post: post.shares[r - 1] })),
    inputs,
  };
}

/** Before any text is prepared. @throws SPECTRUM_RANK when so many directions cannot be taken out. */
export function checkSpectrumRank({ width }: Model, rank: number): void {
  if (Number.isInteger(rank) && rank >= 1 && rank <= width) return;
  throw new LowbitError(
    'SPECTRUM_RANK',
    `the spectrum of a stream of width ${width}: ${rank} directions were asked for; ask for 1 to ${width}`,
  );
}

/** A rank for a stream of this width: QUAD's 64 of 4096, and more of narrow ones, where so few would not be seen. */
export function defaultRank(width: number): number {
  return Math.max(1, Math.min(64, Math.floor(width / 16)));
}

/** Indices of the blocks at a quarter, a half and three quarters of the depth: 8, 16, 24 of 32. */
function inspectedDepths(blocks: number): number[] {
  return [...new Set([0.25, 0.5, 0.75].map((share) => Math.floor(share * blocks)))];
}

/** Powers of two, and the rank. */
function ranksUpTo(largest: number, rank: number): number[] {
  const powers = Array.from({ length: Math.floor(Math.log2(largest)) + 1 }, (_, power) => 2 ** power);
  return [...new Set([...powers, rank])].sort((a, b) => a - b);
}

/** The first `count` of columns [rows, columns]. */
function leadingColumns(matrix: Float32Array, columns: number, count: number): Float32Array {
  return matrix.filter((_, at) => at % columns < count);
}

interface Pass {
  readonly signal: AbortSignal | undefined;
  onBatch(done: number): void;
}

async function bandsAt(
  depths: readonly number[],
  model: Model,
  backend: Backend,
  batches: TokenBatches,
  isometries: StreamIsometries,
  { signal, onBatch }: Pass,
): Promise<InputBands[]> {
  const embedding = await materialize(model.embedding);
  const stream: Tensor[] = [];
  for (let i = 0; i < batches.length; i++) stream.push(...(await backend.evaluate([embedding.forward(await batches.at(i))])));
  const found: InputBands[] = [];
  const last = depths[depths.length - 1];
  for (let index = 0; index <= last; index++) {
    throwIfAborted(signal);
    const block = await materialize(model.blocks[index]);
    if (depths.includes(index)) found.push(...(await inputBands(backend, block, stream, isometries)));
    for (const [i, x] of stream.entries()) {
      if (index < last) [stream[i]] = await backend.evaluate([block.forward(x)], { release: [x] });
      onBatch(index * stream.length + i + 1);
    }
  }
  return found;
}
