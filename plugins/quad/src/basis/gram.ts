// The second moment of the residual stream: one sum over all norms of all blocks, with one block in memory at a time.
import {
  type Backend,
  type Block,
  flattenRows,
  gram,
  LowbitError,
  type Model,
  materialize,
  Norm,
  read,
  type Tensor,
  type TokenBatches,
  tensor,
  throwIfAborted,
} from '@lowbit/core';

/** What is summed: 'pre', what norms read, where a token counts by its energy; 'post', what they give without their weight, where all tokens count alike. */
export type GramSite = 'pre' | 'post';

export interface GramOptions extends Pass {
  readonly site: GramSite;
}

/** One pass over the model. */
interface Pass {
  readonly backend: Backend;
  readonly calibration: TokenBatches;
  /** Windows of the calibration that are used, from its beginning. */
  readonly windows: number;
  /** As the published code does: RMS norms with an epsilon of 1e-5, and the model's first norm all but left out. */
  readonly asReference: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Called after each batch of each block. */
  readonly onBatch?: ((done: number, total: number) => void) | undefined;
}

/** Σ xᵀx over norms and tokens. */
export interface ResidualGram {
  readonly width: number;
  /** [width, width], row-major. */
  readonly matrix: Float64Array;
  /** Tokens that went through the model. */
  readonly tokens: number;
}

const REFERENCE_EPSILON = 1e-5;

/**
 * Runs the first windows through the model and sums the second moments of what its norms read. A batch's products are float32 and sums
 * over batches, norms and blocks float64, so the result is that of all tokens however they are split into batches.
 * @throws CALIBRATION_EMPTY without data.
 */
export async function residualGram(model: Model, { site, ...pass }: GramOptions): Promise<ResidualGram> {
  return (await residualGrams(model, [site], pass))[site];
}

/** `residualGram` of several sites from one pass. */
export async function residualGrams<Site extends GramSite>(
  model: Model,
  sites: readonly Site[],
  options: Pass,
): Promise<Record<Site, ResidualGram>> {
  const { backend, windows, signal, asReference } = options;
  const batches = await firstWindows(options.calibration, windows);
  const tokens = batches.reduce((total, { size }) => total + size, 0);
  let stream = await embedded(backend, model, batches);
  const width = stream[0].shape[2];
  const matrices = sites.map(() => new Float64Array(width * width));
  for (const [index, lazy] of model.blocks.entries()) {
    throwIfAborted(signal);
    const block = await materialize(asReference ? withEpsilon(lazy, REFERENCE_EPSILON) : lazy);
    const next: Tensor[] = [];
    let release: readonly Tensor[] = [];
    for (const [i, x] of stream.entries()) {
      const { output, grams } = blockGrams(block, x, sites);
      const [y, ...sums] = await backend.evaluate([output, ...grams], { release });
      next.push(y);
      for (const [at, sum] of sums.entries()) {
        // The published running mean counts the first norm's sum over all tokens as that of one token.
        const weight = asReference && index === 0 && at < sites.length ? 1 / tokens : 1;
        await addTo(matrices[at % sites.length], sum, weight);
      }
      release = sums;
      options.onBatch?.(index * stream.length + i + 1, model.blocks.length * stream.length);
    }
    stream = next;
  }
  const grams = sites.map((site, i) => [site, { width, matrix: matrices[i], tokens }]);
  return Object.fromEntries(grams) as Record<Site, ResidualGram>;
}

/** The output, and norm after norm the second moments at each site. */
function blockGrams(block: Block, x: Tensor, sites: readonly GramSite[]): { output: Tensor; grams: Tensor[] } {
  const { output, normInputs } = block.trace(x);
  const names = new Set(block.groups.flatMap(({ reads }) => ('norm' in reads ? [reads.norm] : [])));
  const grams = [...names].flatMap((name) => {
    const read = normInputs[name];
    return sites.map((site) => gram.of(flattenRows(site === 'pre' ? read : block.norms[name].with({ weight: undefined }).forward(read))));
  });
  return { output, grams };
}

async function firstWindows(calibration: TokenBatches, count: number): Promise<Tensor[]> {
  const batches: Tensor[] = [];
  for (let i = 0, left = count; i < calibration.length && left > 0; i++) {
    const batch = await calibration.at(i);
    const [windows, length] = batch.shape;
    batches.push(windows <= left ? batch : tensor((await read(batch)).slice(0, left * length), [left, length]));
    left -= windows;
  }
  if (batches.length > 0) return batches;
  throw new LowbitError(
    'CALIBRATION_EMPTY',
    "quad: the outlier directions come from activations, and there is no calibration data; pass some, or basis 'random' or rank 0",
  );
}

async function embedded(backend: Backend, model: Model, batches: readonly Tensor[]): Promise<Tensor[]> {
  const embedding = await materialize(model.embedding);
  const stream: Tensor[] = [];
  for (const batch of batches) stream.push(...(await backend.evaluate([embedding.forward(batch)])));
  return stream;
}

function withEpsilon(block: Block, epsilon: number): Block {
  const changed = Object.entries(block.norms).map(([name, { kind, size, weight, bias }]) => [
    name,
    new Norm(kind, size, epsilon, weight, bias),
  ]);
  return block.with({ norms: Object.fromEntries(changed) });
}

async function addTo(total: Float64Array, leaf: Tensor, weight: number): Promise<void> {
  const values = await read(leaf);
  for (let i = 0; i < total.length; i++) total[i] += weight * values[i];
}
