// What our own training of adapters takes in memory, by calculation: float32 activations, blocks computed again, weights dense or packed.
import { packedRowBytes, packedTileRows } from '@lowbit/core';
import { blockInputBytes, type LayerShape, linearParameters, liveBlockBytes, type ModelShape } from './memory-model.js';

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
  readonly adapters: number;
  /** Kept from the forward pass for the backward pass. */
  readonly blockInputs: number;
  /** Values of one block in its backward pass, or of a piece of the logits where that is more. */
  readonly live: number;
  /** Weights that exist dequantized at one time, and what they take on the way. */
  readonly dequantized: number;
  readonly total: number;
}

/**
 * Bytes for each trained element: float32 weight, gradient and Adam's two moments; the weight and moments that a step makes while it reads
 * the old ones; the weights that are kept as the best.
 */
const TRAINED_BYTES = 16 + 12 + 4;

/** As `modelGradients` of @lowbit/train cuts them. */
const LOGITS_AT_ONCE = 2 ** 23;

/** Logits, their softmax, the gradient, and one value between. */
const LOGIT_VALUES = 4;

/**
 * Bytes for each weight of a tile that is dequantized: two float32 copies, for no operation writes over its input, the codes, and as many
 * bytes again for what they are unpacked from.
 */
const TILE_BYTES = 2 * 4 + 2;

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** The peak of training adapters with `emef`, on an engine that gives back what a program held (`keepMemory: false`). */
export function runMemory(shape: ModelShape, run: TrainingRun): RunMemory {
  const batch = { windows: run.windows, tokens: run.tokens, activationBytes: 4 };
  const logits = 4 * LOGIT_VALUES * Math.min(run.windows * run.tokens * shape.vocabularySize, LOGITS_AT_ONCE);
  const isDense = run.weights === 'float32';
  const parts = {
    process: run.process,
    weights: isDense ? 4 * linearParameters(shape) : heldBytes(shape, run.weights),
    embeddings: 4 * (shape.embeddings + shape.norms),
    adapters: TRAINED_BYTES * run.adapters,
    blockInputs: blockInputBytes(shape, batch),
    live: Math.max(liveBlockBytes(shape, batch), logits),
    dequantized: isDense ? 0 : dequantizedBytes(shape.layers, run.windows * run.tokens),
  };
  return { ...parts, total: sum(Object.values(parts)) };
}

function heldBytes({ layers }: ModelShape, { bits, groupSize, zero }: HeldCodes): number {
  const perGroup = 4 + { symmetric: 0, integer: 1, free: 4 }[zero];
  return sum(
    layers.map(({ inFeatures, outFeatures, count }) => {
      const groups = groupSize === -1 ? 1 : inFeatures / groupSize;
      return count * outFeatures * (packedRowBytes({ bits, inFeatures }) + groups * perGroup);
    }),
  );
}

/**
 * Tiles of all shapes together, and for each width the sum of products that goes from tile to tile, with what is added to it: an engine
 * plans buffers ahead, and one is used again for values of its own shape alone.
 */
function dequantizedBytes(layers: readonly LayerShape[], positions: number): number {
  const tiles = new Map<string, number>();
  for (const { inFeatures, outFeatures } of layers) {
    const rows = packedTileRows(inFeatures);
    for (const height of new Set([Math.min(rows, outFeatures), outFeatures % rows]))
      tiles.set(`${height}×${inFeatures}`, height * inFeatures);
  }
  const widths = new Set(layers.map(({ inFeatures }) => inFeatures));
  return TILE_BYTES * sum([...tiles.values()]) + 2 * 4 * positions * sum([...widths]);
}
