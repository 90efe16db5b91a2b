// What fine-tuning on packed codes costs in memory, by calculation: the figures behind "5.6 times less" and "1.05 times the size".
import { LowbitError, type ModelConfig } from '@lowbit/core';

/** A Linear of a model's blocks, all blocks together. */
export interface LayerShape {
  /** 'q_proj' */
  readonly name: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** How many there are in the model. */
  readonly count: number;
}

/** A decoder-only model of the Llama shape. */
export interface ModelShape {
  readonly layers: readonly LayerShape[];
  readonly blockCount: number;
  readonly hiddenSize: number;
  /** Width of the gated MLP. */
  readonly innerSize: number;
  readonly headCount: number;
  readonly vocabularySize: number;
  /** Elements of embedding and head; a shared one counts once. */
  readonly embeddings: number;
  /** Elements of all norms. */
  readonly norms: number;
}

export interface LlamaSizes {
  readonly hiddenSize: number;
  readonly innerSize: number;
  readonly blockCount: number;
  readonly headCount: number;
  /** Default: as many as heads. */
  readonly keyValueHeadCount?: number;
  /** Default: hiddenSize / headCount. */
  readonly headDim?: number;
  readonly vocabularySize: number;
  readonly tiedEmbeddings?: boolean;
}

/** The shape of a Llama from the figures of its config.json. */
export function llamaShape(sizes: LlamaSizes): ModelShape {
  const { hiddenSize: h, innerSize, blockCount: count, headCount, vocabularySize } = sizes;
  const { keyValueHeadCount = headCount, headDim = h / headCount, tiedEmbeddings = false } = sizes;
  const layer = (name: string, inFeatures: number, outFeatures: number): LayerShape => ({ name, inFeatures, outFeatures, count });
  return {
    layers: [
      layer('q_proj', h, headCount * headDim),
      layer('k_proj', h, keyValueHeadCount * headDim),
      layer('v_proj', h, keyValueHeadCount * headDim),
      layer('o_proj', headCount * headDim, h),
      layer('gate_proj', h, innerSize),
      layer('up_proj', h, innerSize),
      layer('down_proj', innerSize, h),
    ],
    blockCount: count,
    hiddenSize: h,
    innerSize,
    headCount,
    vocabularySize,
    embeddings: (tiedEmbeddings ? 1 : 2) * vocabularySize * h,
    norms: (2 * count + 1) * h,
  };
}

/**
 * The shape of a model with Llama blocks, without biases.
 * @throws MODEL_CONFIG when its config.json does not give the width of the MLP.
 */
export function configShape({ source, ...sizes }: ModelConfig): ModelShape {
  const innerSize = source['intermediate_size'];
  if (typeof innerSize !== 'number') {
    throw new LowbitError('MODEL_CONFIG', 'config.json: intermediate_size is missing; memory is calculated for models with Llama blocks');
  }
  return llamaShape({ ...sizes, innerSize });
}

/** The largest usual size of groups into which the inputs of all layers divide; −1 where none does. */
export function fittingGroupSize({ layers }: ModelShape): number {
  return [128, 64, 32].find((size) => layers.every(({ inFeatures }) => inFeatures % size === 0)) ?? -1;
}

export const llama7B: ModelShape = llamaShape({ hiddenSize: 4096, innerSize: 11008, blockCount: 32, headCount: 32, vocabularySize: 32000 });

/** How the Linears of the blocks are stored. */
export interface CodeFormat {
  readonly bits: number;
  /** Inputs that share a scale; −1: all inputs of an output. */
  readonly groupSize: number;
  /** Bytes of a scale. Default: 2. */
  readonly scaleBytes?: number;
  /** A zero point of `bits` bits for every group. Default: true. */
  readonly zeroPoints?: boolean;
  /** Four bytes for every input that say which group it belongs to, as the published kernels store them. Default: true. */
  readonly groupIndices?: boolean;
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** Elements of the blocks' Linears. */
export function linearParameters({ layers }: ModelShape): number {
  return sum(layers.map(({ inFeatures, outFeatures, count }) => inFeatures * outFeatures * count));
}

/** All elements. */
export function parameterCount(shape: ModelShape): number {
  return linearParameters(shape) + shape.embeddings + shape.norms;
}

/** Bytes of a checkpoint: codes, scales and zero points of the Linears; embedding, head and norms in float16. */
export function quantizedBytes(shape: ModelShape, format: CodeFormat): number {
  return linearBytes(shape, format) + 2 * (shape.embeddings + shape.norms);
}

function linearBytes(
  { layers }: ModelShape,
  { bits, groupSize, scaleBytes = 2, zeroPoints = true, groupIndices = true }: CodeFormat,
): number {
  const perGroup = scaleBytes + (zeroPoints ? bits / 8 : 0);
  return sum(
    layers.map(({ inFeatures, outFeatures, count }) => {
      const groups = outFeatures * (groupSize === -1 ? 1 : Math.ceil(inFeatures / groupSize));
      return count * ((inFeatures * outFeatures * bits) / 8 + groups * perGroup + (groupIndices ? 4 * inFeatures : 0));
    }),
  );
}

/** Bits for each weight of the blocks' Linears, everything that the codes need counted. */
export function bitsPerWeight(shape: ModelShape, format: CodeFormat): number {
  return (8 * linearBytes(shape, format)) / linearParameters(shape);
}

/** Elements of adapters of one rank on the Linears with some names. */
export function adapterParameters({ layers }: ModelShape, rank: number, targets: readonly string[]): number {
  return (
    rank * sum(layers.filter(({ name }) => targets.includes(name)).map((layer) => layer.count * (layer.inFeatures + layer.outFeatures)))
  );
}

/** Bytes for each trained element: float32 weight, gradient and Adam's two moments. */
const TRAINED_BYTES = 16;

export interface TrainingBatch {
  readonly windows: number;
  /** Tokens of a window. */
  readonly tokens: number;
  /** Bytes of an activation. Default: 2. */
  readonly activationBytes?: number;
}

/**
 * Bytes of activations where blocks are computed again for the backward pass: the input of every block, all values of one block with
 * attention scores and probabilities, and logits with their float32 copy and gradient. What our own engine makes: `runMemory`.
 */
export function activationBytes(
  { blockCount, hiddenSize, innerSize, headCount, vocabularySize }: ModelShape,
  batch: TrainingBatch,
): number {
  const { windows, tokens, activationBytes: bytes = 2 } = batch;
  const positions = windows * tokens;
  const blockInputs = bytes * blockCount * positions * hiddenSize;
  const liveBlock = bytes * positions * (10 * hiddenSize + 4 * innerSize) + 2 * bytes * headCount * positions * tokens;
  const logits = positions * vocabularySize * (bytes + 4 + 4);
  return blockInputs + liveBlock + logits;
}

export interface TrainingMemory {
  readonly weights: number;
  readonly adapters: number;
  readonly activations: number;
  /** All of them. What the engine itself holds comes on top: some 0.6 GB for a GPU context. */
  readonly total: number;
}

/** Peak bytes of fine-tuning adapters of `adapterCount` elements on weights of some size. */
export function trainingMemory(shape: ModelShape, weights: number, adapterCount: number, batch: TrainingBatch): TrainingMemory {
  const [adapters, activations] = [TRAINED_BYTES * adapterCount, activationBytes(shape, batch)];
  return { weights, adapters, activations, total: weights + adapters + activations };
}

/** Bytes of the dense model's float16 logits for some tokens: what a cache of whole answers takes. */
export function logitBytes({ vocabularySize }: ModelShape, tokens: number): number {
  return 2 * vocabularySize * tokens;
}

/** A ratio with what stands above and below its line. */
export interface NamedRatio {
  readonly ratio: number;
  readonly of: string;
  readonly over: string;
}

/** Memory of a GPU context, in bytes: what the published measurements include. */
export const GPU_CONTEXT_BYTES = 0.6e9;

const GATE_AND_ATTENTION = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj'];

/** What the ratios are taken for; as published by default. */
export interface RatioSettings {
  /** Inputs that share a scale; −1: all inputs of an output. Default: 128. */
  readonly groupSize?: number;
  /** Default: true. */
  readonly groupIndices?: boolean;
  /** Of the window that is trained on. Default: 512. */
  readonly tokens?: number;
  /** Beside the training in either case. Default: that of a GPU context. */
  readonly contextBytes?: number;
}

/** The two published ratios for a model, each with its baseline named (arXiv 2306.08162). */
export function publishedRatios(
  shape: ModelShape,
  { groupSize = 128, groupIndices = true, tokens = 512, contextBytes = GPU_CONTEXT_BYTES }: RatioSettings = {},
): { readonly memory: NamedRatio; readonly overhead: NamedRatio } {
  const batch = { windows: 1, tokens };
  const tuned = adapterParameters(shape, 8, ['q_proj', 'v_proj']);
  const packed = trainingMemory(shape, quantizedBytes(shape, { bits: 4, groupSize, groupIndices }), tuned, batch);
  const dense = trainingMemory(shape, 4 * parameterCount(shape), tuned, { ...batch, activationBytes: 4 });
  const int2 = quantizedBytes(shape, { bits: 2, groupSize, groupIndices });
  const groups = groupsOf(groupSize);
  return {
    memory: {
      ratio: (dense.total + contextBytes) / (packed.total + contextBytes),
      of: `LoRA on float32 weights with checkpointed blocks, one window of ${tokens} tokens`,
      over: `the same adapters (rank 8 on q and v) on INT4 codes ${groups}`,
    },
    overhead: {
      ratio: 1 + (2 * adapterParameters(shape, 32, GATE_AND_ATTENTION)) / int2,
      of: `INT2 codes ${groups} with float16 adapters of rank 32 on all Linears but down_proj`,
      over: 'the INT2 checkpoint alone, embedding and head in float16',
    },
  };
}

/** 'in groups of 128'. */
export function groupsOf(groupSize: number): string {
  return groupSize === -1 ? 'with one group an output' : `in groups of ${groupSize}`;
}
