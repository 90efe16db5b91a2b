// Which fake quantizer a layer gets, and the weight behind its codes.
import { type Backend, checkDense, DenseLinear, type Linear, LowbitError, lazyTensor, readFloats } from '@lowbit/core';
import { type AffineWeight, type QuantizedLinear, resolveGroupSize } from '@lowbit/quant';
import type { FakeQuantizer } from './fake-quantizer.js';
import { frozenCodes, learnedQuantizer } from './learned.js';
import { lwcQuantizer } from './lwc.js';
import { minmaxQuantizer } from './minmax.js';
import { SEQ_BITS, seqQuantizer } from './seq.js';
import { aligned, denseStart, type GridFormat, recomputed, type WeightStart, withinCodes } from './start.js';

/** What decides how a weight is trained. */
export interface WeightOptions extends GridFormat {
  readonly quantizer: 'learned' | 'minmax' | 'lwc' | 'seq';
  readonly train: 'all' | 'scales';
  readonly latent: 'reference' | 'codes' | 'dequantized';
}

export interface QuantizerRequest {
  readonly backend: Backend;
  /** Dense or affine, in memory. */
  readonly linear: Linear;
  readonly path: string;
  readonly options: WeightOptions;
  /** The full-precision weight, [out, in]: asked for where codes hide it. */
  reference(): Promise<Float32Array>;
}

/**
 * The quantizer of a layer.
 * @throws LINEAR_NOT_AFFINE for other kinds, and for dense layers whose scales alone are to be trained; LINEAR_NOT_DENSE when its grid is to
 *   be another than it has; QAT_QUANTIZER; what `fitGrid` throws.
 */
export async function quantizerOf(request: QuantizerRequest): Promise<FakeQuantizer> {
  const { linear, path, options } = request;
  checkTrainable({ kind: linear.kind, path }, options);
  if (linear instanceof DenseLinear) return denseQuantizer(linear, request);
  const { weight } = linear as QuantizedLinear;
  if (options.train === 'scales') return frozenCodes(weight);
  const { quantizer, clip } = options;
  if (quantizer === 'lwc' && weight.zeroKind === 'symmetric') {
    const remedy = "use quantizer 'learned', or quantize it with zero points";
    throw new LowbitError('QAT_QUANTIZER', `${path}: its grid is symmetric, and 'lwc' shrinks both ends of a range; ${remedy}`);
  }
  const latent = await recomputed(weight.codes.shape, () => latentOf(weight, request));
  const { bits, groupSize, zeroKind: zero, scaleDtype } = weight;
  return quantizer === 'minmax'
    ? minmaxQuantizer(latent, { bits, groupSize, zero, scaleDtype, clip })
    : byName[quantizer]({ weight, latent });
}

const byName: Readonly<Record<'learned' | 'lwc' | 'seq', (start: WeightStart) => Promise<FakeQuantizer> | FakeQuantizer>> = {
  learned: learnedQuantizer,
  lwc: lwcQuantizer,
  // At widths other than 2 bits, as in ParetoQ.
  seq: learnedQuantizer,
};

/** Whether a kind of layer can be trained with these options, before any weight is read. */
export function checkTrainable(
  { kind, path }: { readonly kind: string; readonly path: string },
  { train, quantizer }: Pick<WeightOptions, 'train' | 'quantizer'>,
): void {
  if (kind === 'dense' && train === 'scales') {
    throw new LowbitError(
      'LINEAR_NOT_AFFINE',
      `${path}: is dense and has no scales to train; quantize it before this step, by rtn or decoupleq for example, use train 'all', or narrow this step's targets`,
    );
  }
  if (quantizer === 'seq') checkDense({ kind, path });
  if (kind !== 'dense' && kind !== 'affine') {
    throw new LowbitError(
      'LINEAR_NOT_AFFINE',
      `${path}: is '${kind}', whose grid cannot be trained; quantize it by a method that makes affine codes, such as rtn, gptq or decoupleq, or narrow this step's targets`,
    );
  }
}

async function denseQuantizer({ inFeatures, weight }: DenseLinear, { options, path }: QuantizerRequest): Promise<FakeQuantizer> {
  const { bits, groupSize, zero, clip, scaleDtype, quantizer } = options;
  if (quantizer === 'seq' && bits === SEQ_BITS) {
    return seqQuantizer(weight, { groupSize: resolveGroupSize({ path, inFeatures }, groupSize), scaleDtype });
  }
  const format: GridFormat = { bits, groupSize, clip, scaleDtype, zero: quantizer === 'seq' ? 'symmetric' : zero };
  const startOf = async (): Promise<WeightStart> => denseStart(await readFloats(weight), weight.shape, format, path);
  const start = await startOf();
  const latent = lazyTensor(weight.shape, 'float32', async () => readFloats((await startOf()).latent));
  return quantizer === 'minmax' ? minmaxQuantizer(latent, format) : byName[quantizer]({ ...start, latent });
}

async function latentOf(weight: AffineWeight, { backend, options, reference }: QuantizerRequest): Promise<Float32Array> {
  if (options.latent === 'reference') return reference();
  if (options.latent === 'codes') return withinCodes(await reference(), weight);
  const [dequantized] = await backend.evaluate([weight.dequantized()]);
  return aligned(await readFloats(dequantized), weight);
}
