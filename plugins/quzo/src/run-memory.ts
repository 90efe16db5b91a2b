// What a step of our own takes in memory, by calculation: float32 activations of one block, codes of a byte, one direction a block.
import { type ForwardBatch, forwardBytes, linearParameters, type ModelShape, parameterCount, scaleCount } from './memory-model.js';

export interface StepRun extends Omit<ForwardBatch, 'activationBytes'> {
  /** Inputs that share a scale; −1: all inputs of an output. */
  readonly groupSize: number;
  /** Of what error feedback carries, a code: 4, 2 in 16 bits, 0 without, or where it is rebuilt from the log. */
  readonly carryBytes: 0 | 2 | 4;
  /** Resident bytes of the process before the model is there, measured: the runtime, the engine, compiled code. */
  readonly process: number;
}

/** Bytes at the peak of a step that trains the codes of all Linears, with one query. */
export interface StepMemory {
  readonly process: number;
  /** Codes, a byte each whatever their bits, and float32 scales. */
  readonly weights: number;
  /** Embedding, head and norms, in float32. */
  readonly embeddings: number;
  readonly carry: number;
  /** All that one block computes, which an engine that frees what it has read stays below; or logits, where they are more. */
  readonly live: number;
  /** The residual stream of the other sign: what the block is still to read, or has written. */
  readonly streams: number;
  /** Directions of the Linears of one block. */
  readonly directions: number;
  /** Perturbed weights while they are dequantized. */
  readonly perturbed: number;
  readonly total: number;
}

/** Logits that exist at one time, and values of their size: the logits, and two on the way to the loss. */
const LOGITS_AT_ONCE = 2 ** 23;
const LOGIT_VALUES = 3;

/** Float32 copies of a weight on the way from its codes; an engine uses a buffer again for values of its own shape alone. */
const COPIES = 3;

/** The peak of a step, on an engine that gives back what a program held (`keepMemory: false`). */
export function stepMemory(shape: ModelShape, run: StepRun): StepMemory {
  const { windows, tokens, groupSize, process, carryBytes } = run;
  const block = forwardBytes({ ...shape, vocabularySize: 0 }, { windows, tokens, activationBytes: 4 });
  const logits = 4 * LOGIT_VALUES * Math.min(windows * tokens * shape.vocabularySize, LOGITS_AT_ONCE);
  const sizes = new Map(shape.linears.map(([out, inFeatures]) => [`${out}×${inFeatures}`, out * inFeatures]));
  const parts = {
    process,
    weights: linearParameters(shape) + 4 * scaleCount(shape, groupSize),
    embeddings: 4 * (shape.embeddings + shape.norms),
    carry: carryBytes * linearParameters(shape),
    live: Math.max(block, logits),
    streams: 2 * 4 * windows * tokens * shape.hiddenSize,
    directions: linearParameters(shape) / shape.blockCount,
    perturbed: 4 * COPIES * [...sizes.values()].reduce((sum, size) => sum + size, 0),
  };
  return { ...parts, total: Object.values(parts).reduce((sum, bytes) => sum + bytes, 0) };
}

/**
 * The peak of a step of AdamW on all weights in float32 that computes blocks again for the backward pass: weights, gradients and two moments;
 * what each block reads; and what one block computes, with gradients of as much, or the logits.
 */
export function gradientStepBytes(shape: ModelShape, { windows, tokens }: Pick<ForwardBatch, 'windows' | 'tokens'>): number {
  const block = forwardBytes({ ...shape, vocabularySize: 0 }, { windows, tokens, activationBytes: 4 });
  const logits = 4 * (LOGIT_VALUES + 1) * Math.min(windows * tokens * shape.vocabularySize, LOGITS_AT_ONCE);
  return 16 * parameterCount(shape) + 4 * windows * tokens * shape.hiddenSize * (shape.blockCount + 1) + Math.max(2 * block, logits);
}
