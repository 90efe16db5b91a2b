// Weights and inputs of a real layer quantized plain, rotated, and with outlier directions apart: errors of outputs on held-out tokens.
import {
  type Backend,
  concat,
  createRng,
  type Linear,
  linear,
  matmul,
  readFloats,
  readNumber,
  slice,
  square,
  sub,
  sum,
  type Tensor,
} from '@lowbit/core';
import { openSafetensors } from '@lowbit/formats';
import { topEigenvectors } from '@lowbit/linalg';
import { streamIsometries } from '@lowbit/quad';
import {
  ActivationQuantizedLinear,
  AffineWeight,
  fitGrid,
  type GptqFactor,
  gptqCodes,
  gptqFactor,
  QuantizedLinear,
  roundToGrid,
  SplitLinear,
} from '@lowbit/quant';

/** One input of the layer and what reads it: names in the file. */
export interface LayerInput {
  readonly inputs: string;
  readonly weights: readonly string[];
}

/** What reads the residual stream in a Llama's layer, as the file of layer 11 of CodeLlama 13B names it. */
export const layerInputs: readonly LayerInput[] = [
  { inputs: 'x_attn_in', weights: ['w.self_attn.q_proj.rows0_1024', 'w.self_attn.k_proj.rows0_1024'] },
  { inputs: 'x_mlp_in', weights: ['w.mlp.gate_proj.rows0_1024'] },
];

export type WeightQuantizer = 'rtn' | 'gptq';

export interface LayerSettings {
  /** Outlier directions. */
  readonly rank: number;
  /** Of weights and activations alike. */
  readonly bits: readonly number[];
  readonly quantizers: readonly WeightQuantizer[];
  /** Leading outputs of each weight. */
  readonly outputs: number;
}

const bases = ['plain', 'rotated', 'decomposed'] as const;

/** ‖XWᵀ − Ŷ‖² / ‖XWᵀ‖² on held-out tokens, by basis. */
export interface LayerErrors extends Record<(typeof bases)[number], number> {
  readonly weight: string;
  readonly bits: number;
  readonly quantizer: WeightQuantizer;
}

/** A matrix [rows, width] in some basis: what stays in full precision, and what is rounded. */
interface View {
  readonly outlier: Tensor | undefined;
  readonly rest: Tensor;
}

const CLIP_RATIO = 0.9;
/** Relative to the mean of the diagonal. A calibration of one token for ten inputs says little about most directions: with 0.01 GPTQ fits its tokens and loses on others. */
export const DAMPENING = 1;

/**
 * Symmetric weights of one scale an output channel, its range searched, and activations of one a token. The first half of the tokens
 * calibrates (outlier directions, GPTQ), the other half judges.
 */
export async function layerErrors(
  backend: Backend,
  file: string,
  { inputs, weights }: LayerInput,
  { rank, bits, quantizers, outputs }: LayerSettings,
): Promise<LayerErrors[]> {
  const tensors = await openSafetensors(file);
  const all = tensors.tensor(inputs);
  const [tokens, width] = all.shape;
  const halves = [slice(all, 0, 0, tokens / 2), slice(all, 0, tokens / 2, tokens)];
  const [calibration, heldOut, ...dense] = await backend.evaluate([
    ...halves,
    ...weights.map((name) => slice(tensors.tensor(name), 0, 0, outputs)),
  ]);
  const rng = createRng(0);
  const { vectors } = await topEigenvectors(backend, await gramOf(backend, calibration), width, rank, { rng: rng.at('eigenvectors') });
  const { rotated, decomposed } = await streamIsometries(backend, vectors, width, rng.at('rotation'));
  const views = {
    plain: (x: Tensor): View => ({ outlier: undefined, rest: x }),
    rotated: (x: Tensor): View => rotated.input(x),
    decomposed: (x: Tensor): View => decomposed.input(x),
  };
  const found = weights.flatMap((weight, index) =>
    bits.flatMap((b) => quantizers.map((quantizer) => ({ weight, index, bits: b, quantizer, plain: 0, rotated: 0, decomposed: 0 }))),
  );
  for (const basis of bases) {
    const view = views[basis];
    const factor = quantizers.includes('gptq') ? await factorOf(backend, view(calibration).rest) : undefined;
    for (const row of found) {
      const layer = await quantizedLayer(backend, view(dense[row.index]), row.bits, row.quantizer === 'gptq' ? factor : undefined);
      row[basis] = await relativeError(backend, layer.forward(joined(view(heldOut))), linear(heldOut, dense[row.index]));
    }
  }
  return found.map(({ index: _, ...row }) => row);
}

async function gramOf(backend: Backend, x: Tensor): Promise<Float32Array> {
  const [gram] = await backend.evaluate([matmul(x, x, { transposeA: true })]);
  return readFloats(gram);
}

async function factorOf(backend: Backend, calibration: Tensor): Promise<GptqFactor> {
  const inputs = calibration.shape[1];
  return gptqFactor(backend, await gramOf(backend, calibration), inputs, { dampening: DAMPENING, actOrder: true });
}

/** By GPTQ with a factor, to nearest without. */
async function quantizedLayer(backend: Backend, { outlier, rest }: View, bits: number, factor: GptqFactor | undefined): Promise<Linear> {
  const [weight] = await backend.evaluate([rest]);
  const values = await readFloats(weight);
  const grid = fitGrid(values, weight.shape, { bits, groupSize: -1, symmetric: true, scaleDtype: 'float16', clip: 'mse' });
  const codes = factor ? await gptqCodes(backend, factor, values, grid) : roundToGrid(values, grid);
  const base = new QuantizedLinear(AffineWeight.fromGrid(codes, grid));
  const rounding = new ActivationQuantizedLinear(base, { bits, clipRatio: CLIP_RATIO });
  return outlier ? new SplitLinear({ outlier, rest: rounding, outlierDtype: 'float32' }) : rounding;
}

function joined({ outlier, rest }: View): Tensor {
  return outlier ? concat([outlier, rest], 1) : rest;
}

async function relativeError(backend: Backend, approximate: Tensor, exact: Tensor): Promise<number> {
  const [wrong, all] = await backend.evaluate([sum(square(sub(approximate, exact))), sum(square(exact))]);
  return (await readNumber(wrong)) / (await readNumber(all));
}
