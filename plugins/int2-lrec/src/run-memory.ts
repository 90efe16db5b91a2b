// What our own training of adapters takes in memory, by calculation: float32 activations, blocks computed again, weights dense or packed.
import { bitPlanes, packedRowBytes, packedTileRows } from '@lowbit/core';
import { type LayerShape, linearParameters, type ModelShape } from './memory-model.js';

/** Codes as `PackedLinear` of @lowbit/quant holds them. */
export interface HeldCodes {
  readonly bits: number;
  /** Inputs that share a scale; −1: all inputs of an output. */
  readonly groupSize: number;
  /** What each group holds beside its float32 scale: nothing, a byte, or a float32. */
  readonly zero: 'symmetric' | 'integer' | 'free';
}

export interface TrainingRun {
  /** Of the blocks' Linears. */
  readonly weights: HeldCodes | 'float32';
  /** Elements of the adapters. */
  readonly adapters: number;
  /** Windows that are computed together, and tokens of each. */
  readonly windows: number;
  readonly tokens: number;
  /** Resident bytes of the process before the model is there, measured: the runtime, the engine, compiled code. */
  readonly process: number;
}

/** Bytes at the peak of a step. */
export interface RunMemory {
  readonly process: number;
  /** Of the blocks' Linears, between evaluations. */
  readonly weights: number;
  /** Embedding, head and norms, in float32. */
  readonly embeddings: number;
  /** The adapters with everything that is kept of them from step to step. */
  readonly adapters: number;
  /** What a step makes, where that is most: in the backward pass of a block, at the logits, or in the optimizer's update. */
  readonly step: number;
  /** Tensors: all of these but the process. What an engine takes that frees every value after its last use. */
  readonly tensors: number;
  /** Buffers that ONNX Runtime does not free in between, because a later value of the same shape shall lie there. */
  readonly spare: number;
  /** Everything. */
  readonly total: number;
}

/**
 * Bytes for each trained element between steps, in float32: weight and Adam's two moments; the weight as the training began; the weights that
 * are kept as the best.
 */
const KEPT_BYTES = 12 + 4 + 4;

/** Of each, the gradient: that of the blocks above is there while a block has its backward pass. */
const GRADIENT_BYTES = 4;

/**
 * In an update the gradient, weight and moments that are made while the old ones are read, and values between. Large adapters are updated one
 * by one and take less.
 */
const UPDATE_BYTES = GRADIENT_BYTES + 12 + 4;

/** As `modelGradients` of @lowbit/train cuts them. */
const LOGITS_AT_ONCE = 2 ** 23;

/** Logits, their softmax, the gradient, and one value between. */
const LOGIT_VALUES = 4;

/** Of each weight that is dequantized: what its codes are unpacked to, or multiplied by, and the result, both float32. */
const TILE_BYTES = 2 * 4;

/** In the engine's own buffers, also the codes, and as many bytes again for what they are unpacked from. */
const ENGINE_TILE_BYTES = TILE_BYTES + 2;

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/**
 * The peak of training adapters with `emef`, on an engine that gives back what a program held (`keepMemory: false`). `tensors` is held
 * against counted bytes in the tests.
 */
export function runMemory(shape: ModelShape, run: TrainingRun): RunMemory {
  const held = {
    weights: run.weights === 'float32' ? 4 * linearParameters(shape) : heldBytes(shape, run.weights),
    embeddings: 4 * (shape.embeddings + shape.norms),
    adapters: KEPT_BYTES * run.adapters,
  };
  const step = Math.max(passBytes(shape, run) + GRADIENT_BYTES * run.adapters, UPDATE_BYTES * run.adapters);
  const tensors = sum(Object.values(held)) + step;
  const spare = run.weights === 'float32' ? 0 : spareBytes(shape.layers, run.windows * run.tokens);
  return { process: run.process, ...held, step, tensors, spare, total: run.process + tensors + spare };
}

/** Forward and backward pass: what is kept for each block, and what is there in the largest moment beside it. */
function passBytes(shape: ModelShape, run: TrainingRun): number {
  const positions = run.windows * run.tokens;
  // The inputs of the blocks; and the last one's output with its gradient.
  const kept = 4 * (shape.blockCount + 2) * positions * shape.hiddenSize;
  const logits = 4 * LOGIT_VALUES * Math.min(positions * shape.vocabularySize, LOGITS_AT_ONCE);
  return kept + Math.max(logits, blockBytes(shape, run));
}

/**
 * Values of a block in its backward pass, which computes it once more. With h the width of the residual stream, q, k and v what is
 * projected, I the width of the MLP and S the scores of a position, one for each head and token, there are for each position
 *
 * - in the attention's gradient h + h (input after its norm, gradient of the residual stream), q, k, v, and 3 S (probabilities, their
 *   gradient, that of the scores);
 * - in the MLP's gradient 3 h (both inputs after their norms, the stream between), q, k, v, heads, S (probabilities), and 6 I (gate, its
 *   sigmoid, up, the gradient of their product, two values between);
 * - where a weight of the MLP is dequantized the same with 4 I, and the weights.
 *
 * S is an upper bound beyond 256 tokens, where queries are handled in chunks.
 */
function blockBytes(shape: ModelShape, { weights, windows, tokens }: TrainingRun): number {
  const { hiddenSize: h, innerSize, headCount, layers } = shape;
  const widthOf = (name: string): number => layers.find((layer) => layer.name === name)?.outFeatures ?? h;
  const [q, k, v] = ['q_proj', 'k_proj', 'v_proj'].map(widthOf);
  const scores = headCount * tokens;
  const bytes = (values: number): number => 4 * windows * tokens * values;
  const besideMlp = 3 * h + q + k + v + q + scores;
  const attention = bytes(2 * h + q + k + v + 3 * scores);
  const mlp = bytes(besideMlp + 6 * innerSize);
  if (weights === 'float32') return Math.max(attention, mlp);
  return Math.max(attention, mlp, bytes(besideMlp + 4 * innerSize) + dequantizedBytes(shape, weights));
}

/** The largest piece of a weight that is dequantized at once, and the offsets of a block's codes, which are computed from zero points. */
function dequantizedBytes({ layers }: ModelShape, codes: HeldCodes): number {
  const tile = Math.max(...layers.map(({ inFeatures, outFeatures }) => Math.min(packedTileRows(inFeatures), outFeatures) * inFeatures));
  const offsets = codes.zero === 'free' ? 0 : sum(layers.map((layer) => layer.outFeatures * groupsOf(layer, codes)));
  // Codes that lie in several planes are added up.
  const sums = layers.some(({ inFeatures }) => bitPlanes({ bits: codes.bits, inFeatures }).length > 1) ? 4 * tile : 0;
  return TILE_BYTES * tile + sums + 4 * offsets;
}

function groupsOf({ inFeatures }: LayerShape, { groupSize }: HeldCodes): number {
  return groupSize === -1 ? 1 : inFeatures / groupSize;
}

function heldBytes({ layers }: ModelShape, codes: HeldCodes): number {
  const perGroup = 4 + { symmetric: 0, integer: 1, free: 4 }[codes.zero];
  return sum(
    layers.map((layer) => {
      const { inFeatures, outFeatures, count } = layer;
      return count * outFeatures * (packedRowBytes({ bits: codes.bits, inFeatures }) + groupsOf(layer, codes) * perGroup);
    }),
  );
}

/**
 * Tiles of all shapes but the one that is in use, and for each width the sum of products that goes from tile to tile, with what is added to
 * it: an engine plans buffers ahead, and one is used again for values of its own shape alone.
 */
function spareBytes(layers: readonly LayerShape[], positions: number): number {
  const tiles = new Map<string, number>();
  for (const { inFeatures, outFeatures } of layers) {
    const rows = packedTileRows(inFeatures);
    for (const height of new Set([Math.min(rows, outFeatures), outFeatures % rows]))
      tiles.set(`${height}×${inFeatures}`, height * inFeatures);
  }
  const widths = new Set(layers.map(({ inFeatures }) => inFeatures));
  const inUse = TILE_BYTES * Math.max(...tiles.values());
  return ENGINE_TILE_BYTES * sum([...tiles.values()]) - inUse + 2 * 4 * positions * sum([...widths]);
}
