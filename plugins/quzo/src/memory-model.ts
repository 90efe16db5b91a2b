// What training by forward passes takes in memory, by calculation, beside trainers with gradients: the figures behind "2.94 times less".
import { LowbitError, type ModelConfig } from '@lowbit/core';

/** A decoder-only model of the Llama shape. */
export interface ModelShape {
  /** Linears of one block, [out, in]. */
  readonly linears: readonly (readonly [number, number])[];
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

type ShapeConfig = Pick<
  ModelConfig,
  'hiddenSize' | 'blockCount' | 'headCount' | 'keyValueHeadCount' | 'headDim' | 'vocabularySize' | 'tiedEmbeddings'
>;

/** A model with Llama blocks, without biases. */
export function llamaShape(config: ShapeConfig, innerSize: number): ModelShape {
  const { hiddenSize: width, blockCount, headCount, keyValueHeadCount, headDim, vocabularySize, tiedEmbeddings } = config;
  const [queries, keys] = [headCount * headDim, keyValueHeadCount * headDim];
  return {
    linears: [
      [queries, width],
      [keys, width],
      [keys, width],
      [width, queries],
      [innerSize, width],
      [innerSize, width],
      [width, innerSize],
    ],
    ...{ blockCount, hiddenSize: width, innerSize, headCount, vocabularySize },
    embeddings: (tiedEmbeddings ? 1 : 2) * vocabularySize * width,
    norms: (2 * blockCount + 1) * width,
  };
}

/**
 * The shape of a model from what its config.json says.
 * @throws MODEL_CONFIG when that has no width of the MLP.
 */
export function shapeOf(config: ModelConfig): ModelShape {
  const innerSize = config.source['intermediate_size'];
  if (typeof innerSize === 'number') return llamaShape(config, innerSize);
  throw new LowbitError('MODEL_CONFIG', 'config.json: intermediate_size is missing; memory is calculated for models with Llama blocks');
}

export const llama7B: ModelShape = llamaShape(
  {
    ...{ hiddenSize: 4096, blockCount: 32, headCount: 32, keyValueHeadCount: 32, headDim: 128, vocabularySize: 32000 },
    tiedEmbeddings: false,
  },
  11008,
);

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** Elements of the blocks' Linears. */
export function linearParameters({ linears, blockCount }: ModelShape): number {
  return blockCount * sum(linears.map(([outFeatures, inFeatures]) => outFeatures * inFeatures));
}

/** All elements, P. */
export function parameterCount(shape: ModelShape): number {
  return linearParameters(shape) + shape.embeddings + shape.norms;
}

/** How the Linears of the blocks are stored. */
export interface CodeFormat {
  readonly bits: number;
  /** Inputs that share a scale; −1: all inputs of an output. */
  readonly groupSize: number;
}

/** Scales of all groups. */
export function scaleCount({ linears, blockCount }: ModelShape, groupSize: number): number {
  return (
    blockCount * sum(linears.map(([outFeatures, inFeatures]) => outFeatures * (groupSize === -1 ? 1 : Math.ceil(inFeatures / groupSize))))
  );
}

/** Bytes of a checkpoint: packed codes, float16 scales; embedding, head and norms in float16. */
export function quantizedBytes(shape: ModelShape, { bits, groupSize }: CodeFormat): number {
  return (linearParameters(shape) * bits) / 8 + 2 * (scaleCount(shape, groupSize) + shape.embeddings + shape.norms);
}

/** Elements of adapters of one rank on the queries and the values of every block. */
function adapterParameters({ linears, blockCount }: ModelShape, rank: number): number {
  const [queries, , values] = linears;
  return rank * blockCount * sum([...queries, ...values]);
}

/** What a forward pass computes at a time. */
export interface ForwardBatch {
  readonly windows: number;
  /** Tokens of a window. */
  readonly tokens: number;
  /** Bytes of an activation. Default: 2. */
  readonly activationBytes?: number;
}

/** Bytes of what a forward pass holds beside the weights: the values of one block, attention scores among them, and float32 logits. */
export function forwardBytes(shape: ModelShape, batch: ForwardBatch): number {
  return liveBlockBytes(shape, batch) + 4 * batch.windows * batch.tokens * shape.vocabularySize;
}

/** Bytes of what back-propagation keeps more: the values of every other block. */
export function keptBytes(shape: ModelShape, batch: ForwardBatch): number {
  return (shape.blockCount - 1) * liveBlockBytes(shape, batch);
}

function liveBlockBytes({ hiddenSize, innerSize, headCount }: ModelShape, batch: ForwardBatch): number {
  const { windows, tokens, activationBytes: bytes = 2 } = batch;
  return bytes * windows * tokens * (10 * hiddenSize + 4 * innerSize + 2 * headCount * tokens);
}

/** What a trainer holds from step to step, in bytes. */
export interface Trainer {
  readonly name: string;
  readonly weights: number;
  /** Gradients, moments, adapters, carries. */
  readonly training: number;
}

/**
 * Trainers by forward passes alone: they hold what they train and nothing else, and a carry only where codes have one.
 * @param groupSize of the codes.
 */
export function forwardTrainers(shape: ModelShape, groupSize: number): readonly Trainer[] {
  const ofCodes = (bits: number): readonly Trainer[] => {
    const weights = quantizedBytes(shape, { bits, groupSize });
    return [
      { name: `QuZO, INT${bits} codes`, weights, training: 0 },
      { name: `QuZO, INT${bits} codes with a float32 carry`, weights, training: 4 * linearParameters(shape) },
      { name: `QuZO, INT${bits} codes with a carry of 16 bits`, weights, training: 2 * linearParameters(shape) },
      { name: `QuZO, float32 adapters of rank 8 on INT${bits} codes`, weights, training: 4 * adapterParameters(shape, 8) },
    ];
  };
  return [...ofCodes(8), ...ofCodes(4), { name: 'MeZO, float16 weights', weights: 2 * parameterCount(shape), training: 0 }];
}

/**
 * Trainers of all weights by back-propagation.
 * @param groupSize of the codes.
 */
export function gradientTrainers(shape: ModelShape, groupSize: number): readonly Trainer[] {
  const count = parameterCount(shape);
  const weights = quantizedBytes(shape, { bits: 8, groupSize });
  return [
    { name: 'SGD, INT8 codes with float16 gradients', weights, training: 2 * count },
    { name: 'SGD, float16 weights and gradients', weights: 2 * count, training: 2 * count },
    { name: 'Adam, float16 weights, gradients and moments', weights: 2 * count, training: 6 * count },
    { name: 'AdamW, float16 weights and gradients, float32 copy and moments', weights: 2 * count, training: 14 * count },
  ];
}

/** A ratio with what stands above and below its line. */
interface NamedRatio {
  readonly ratio: number;
  readonly of: string;
  readonly over: string;
}

export interface PublishedRatios {
  /** 2.94 for LLaMA-7B. */
  readonly int8: NamedRatio;
  /** 5.47 for LLaMA-7B. */
  readonly int4: NamedRatio;
  /** 7.8 for LLaMA-7B. */
  readonly adam: NamedRatio;
}

/** Tokens of the window whose activations, 0.1 GB for LLaMA-7B, the first two ratios include above the line. */
const WINDOW = 320;

/**
 * The published ratios for a model, each with its baseline named (arXiv 2502.12346). The paper does not say how they are taken. 2.94 and
 * 5.47 have the ratio of the INT8 and the INT4 checkpoint, so above the line stands one number for both; first-order training of INT8
 * codes with float16 gradients is that number, within 0.1 GB of activations.
 */
export function publishedRatios(shape: ModelShape): PublishedRatios {
  const [first, , adam] = gradientTrainers(shape, -1);
  const above = first.weights + first.training + forwardBytes(shape, { windows: 1, tokens: WINDOW });
  const of = `${first.name}, with activations of ${WINDOW} tokens`;
  const over = (bits: number): string => `INT${bits} codes with a scale an output, the rest float16`;
  const bytes = (bits: number): number => quantizedBytes(shape, { bits, groupSize: -1 });
  return {
    int8: { ratio: above / bytes(8), of, over: over(8) },
    int4: { ratio: above / bytes(4), of, over: over(4) },
    adam: { ratio: (adam.weights + adam.training) / bytes(8), of: adam.name, over: over(8) },
  };
}
