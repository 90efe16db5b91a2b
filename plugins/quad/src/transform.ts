// The transform behind `rotate` and `quad`: outlier directions, isometry, rotations inside blocks, and what was done for the log.
import { Embedding, type Model, mean, sub, type Tensor, type TransformContext } from '@lowbit/core';
import { type Convergence, energyCaptured, outlierBasis } from './basis/basis.js';
import { type ResidualGram, residualGram } from './basis/gram.js';
import type { InnerRotations } from './fold/linears.js';
import { rotatedModel } from './fold/model.js';
import { byRows } from './fold/rows.js';
import { type AxisRotation, hadamardOrFallback, noRotation, randomAxis } from './isometry/axis-rotation.js';
import { Isometry } from './isometry/isometry.js';
import { reflections } from './isometry/reflections.js';
import { type RotationSizes, readsActivations, rotationSizes } from './model-check.js';
import type { QuadOptions } from './options.js';

type Context = TransformContext<unknown>;

/** Everything that decides the new basis. It may be kept and looked at; weights are not in it. */
export interface Basis {
  readonly isometry: Isometry;
  readonly inner: InnerRotations;
  /** Of the calibration, where it was summed. */
  readonly gram: ResidualGram | undefined;
  /** Of its eigenvectors, where the directions are such. */
  readonly convergence: Convergence | undefined;
}

/** Chooses the basis for a model that `checkModel` accepts. */
export async function chooseBasis(model: Model, options: QuadOptions, context: Context): Promise<Basis> {
  const { hiddenSize: width } = model.config;
  const sizes = rotationSizes(model, options);
  const inner = await innerRotations(sizes, options, context);
  const { rank, layout } = options;
  const rotation = await residualRotation(sizes.residual, 'residual', options.fallback, options, context);
  const gram = readsActivations(options) ? await summed(model, options, context) : undefined;
  if (rank === 0) {
    const isometry = new Isometry({ layout, width, outliers: undefined, rotation });
    return { inner, gram, convergence: undefined, isometry };
  }
  const { backend, rng } = context;
  const { columns, convergence } = await outlierBasis({ backend, kind: options.basis, width, rank, gram, rng: rng.at('basis') });
  // What the outlier columns are rotated by matters little, so a size without a Hadamard matrix is no reason to stop.
  const fallback = options.fallback === 'error' ? 'block-diagonal' : options.fallback;
  const outliers = {
    reflections: reflections(columns, width, rank),
    rotation: await residualRotation(rank, 'outliers', fallback, options, context),
  };
  return { inner, gram, convergence, isometry: new Isometry({ layout, width, outliers, rotation }) };
}

/**
 * Rotates the residual stream of a model that `checkModel` accepts and what lies inside its blocks, splits off the outlier directions, and
 * rounds activations.
 * @throws CALIBRATION_EMPTY, FLOAT16_RANGE.
 */
export async function transformModel(given: Model, options: QuadOptions, context: Context): Promise<Model> {
  const model = options.preset === 'reference' ? await withMeanFreeEmbedding(given, context) : given;
  const basis = await chooseBasis(model, options, context);
  report(basis, options, context);
  const { keyValueBits: bits, keyValueClipRatio: clipRatio, rotateKeys } = options;
  const keyValues = bits < 16 ? { bits, clipRatio, rotateKeys } : undefined;
  const onBlock = (done: number): void => context.progress(done, model.blocks.length);
  return rotatedModel(context.backend, model, { ...options, ...basis, keyValues }, onBlock);
}

function summed(model: Model, options: QuadOptions, { backend, calibration, signal, progress }: Context): Promise<ResidualGram> {
  const { basisWindows: windows, gram: site, preset } = options;
  return residualGram(model, { backend, calibration, windows, site, asReference: preset === 'reference', signal, onBatch: progress });
}

async function residualRotation(
  size: number,
  address: string,
  fallback: QuadOptions['fallback'],
  { rotation }: QuadOptions,
  { backend, rng }: Context,
): Promise<AxisRotation> {
  if (rotation === 'none') return noRotation(size);
  const draws = rng.at('rotation', address);
  if (rotation === 'random') return randomAxis(backend, size, draws.at('matrix'));
  return hadamardOrFallback(size, { backend, fallback, rng: draws, hasSigns: true });
}

async function innerRotations(sizes: RotationSizes, { fallback }: QuadOptions, { backend, rng }: Context): Promise<InnerRotations> {
  const of = (size: number, address: string): Promise<AxisRotation> =>
    hadamardOrFallback(size, { backend, fallback, rng: rng.at('rotation', address), hasSigns: false });
  const { withinHeads, acrossHeads, hidden } = sizes;
  return {
    withinHeads: await of(withinHeads, 'within-heads'),
    acrossHeads: acrossHeads === undefined ? undefined : await of(acrossHeads, 'across-heads'),
    hidden: hidden === undefined ? undefined : await of(hidden, 'hidden'),
  };
}

/** E − its rows' means, as the published code has it; the function changes. */
async function withMeanFreeEmbedding(model: Model, { backend }: Context): Promise<Model> {
  const { weight } = model.embedding;
  const centred = (rows: Tensor): Tensor => sub(rows, mean(rows, [1], true));
  return model.with({ embedding: new Embedding(await byRows(backend, weight, weight.shape[1], centred)) });
}

/** What rotates, by the name of the log, in the words of a warning. */
const places = {
  residual: 'the residual stream',
  outliers: 'the directions in full precision',
  withinHeads: 'the features within heads',
  acrossHeads: 'heads among each other',
  hidden: 'the inputs of the MLP output projection',
} as const;

function report({ isometry, inner, gram, convergence }: Basis, options: QuadOptions, { log, warn }: Context): void {
  const rotations = { residual: isometry.rotation, outliers: isometry.outliers?.rotation, ...inner };
  const entries = (Object.keys(places) as (keyof typeof places)[]).flatMap((name) => {
    const { size, form } = rotations[name] ?? {};
    return size === undefined ? [] : [{ name, size, form }];
  });
  const { outliers, rank, width, residualWidth } = isometry;
  const energy = gram && outliers ? [...energyCaptured(gram, outliers.reflections.basis, rank)] : [];
  const eigenvectors = convergence && { iterations: convergence.iterations, residual: convergence.residual };
  log({ rank, width, residualWidth, energy, tokens: gram?.tokens ?? 0, ...(eigenvectors && { eigenvectors }), rotations: entries });
  for (const { name, size, form } of entries) {
    // What the outlier columns are rotated by matters little, and a random rotation of the stream is what was asked for.
    if (name === 'outliers' || (name === 'residual' && options.rotation === 'random')) continue;
    if (form !== 'block-diagonal' && form !== 'random') continue;
    const instead = form === 'random' ? 'by a random orthogonal matrix' : 'by a Hadamard matrix for each stretch of a power of two';
    warn('HADAMARD_FALLBACK', `no Hadamard matrix of order ${size} is known: ${places[name]} are rotated ${instead}`);
  }
  if (convergence?.converged === false) {
    const { iterations, residual } = convergence;
    warn(
      'BASIS_NOT_CONVERGED',
      `the directions of most energy were still changing after ${iterations} iterations (relative residual ${residual.toPrecision(2)}); they hold the energy that the log says, and a rank beyond which directions hold clearly less converges sooner`,
    );
  }
}
