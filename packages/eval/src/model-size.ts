// What a model weighs: bits per weight with everything counted, and bytes on disk.

import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Block,
  DenseLinear,
  type Evaluator,
  type Linear,
  type LinearState,
  LowbitError,
  type Model,
  type Norm,
  type Score,
} from '@lowbit/core';

/** One Linear's size. */
export interface LinearSize {
  /** 'model.layers.3.mlp.down_proj'. */
  readonly path: string;
  readonly kind: string;
  /** Weights it stands for: those of the reference's layer where one is given, else its own, over the model's hidden size where the stream is wider. */
  readonly weights: number;
  /** Codes, scales, offsets, adapters; the bias not. */
  readonly bits: number;
  readonly bitsPerWeight: number;
}

export interface ModelSize {
  /** Every Linear of every block. */
  readonly linears: readonly LinearSize[];
  /** Of the targeted Linears together: Σ bits / Σ weights. */
  readonly bitsPerWeight: number;
  readonly targetedWeights: number;
  /** Of the whole model: embedding, head, norms and biases too. */
  readonly wholeModelBitsPerWeight: number;
  readonly totalBits: number;
  /** Parameters of the reference, or of the model without one. */
  readonly parameters: number;
}

export interface ModelSizeOptions {
  readonly reference?: Model | undefined;
  /** Which Linears of the blocks the figure is over; all by default. */
  readonly targets?: ((path: string) => boolean) | undefined;
}

/**
 * Sizes of a model, from shapes alone: no weight is read. Embedding, norms and biases count with the bits of the head's elements if that is dense,
 * else 16; a head that shares the embedding's weight counts once.
 * @throws TARGETS_EMPTY when no Linear is targeted.
 */
export function measureSize(model: Model, { reference, targets = () => true }: ModelSizeOptions = {}): ModelSize {
  const original = weightsOf(reference ?? model);
  const linears = [...linearsOf(model)].map(([path, linear]): LinearSize => {
    const weights = original.get(path) ?? linear.inFeatures * linear.outFeatures;
    return { path, kind: linear.kind, weights, bits: linear.storageBits, bitsPerWeight: linear.storageBits / weights };
  });
  const targeted = linears.filter(({ path }) => targets(path));
  if (targeted.length === 0) {
    throw new LowbitError(
      'TARGETS_EMPTY',
      `bits-per-weight: no Linear is targeted; the model has ${linears
        .slice(0, 3)
        .map(({ path }) => path)
        .join(', ')}, …`,
    );
  }
  const targetedWeights = total(targeted.map(({ weights }) => weights));
  const totalBits = total(linears.map(({ bits }) => bits)) + restBits(model);
  const parameters = parametersOf(reference ?? model);
  return {
    linears,
    bitsPerWeight: total(targeted.map(({ bits }) => bits)) / targetedWeights,
    targetedWeights,
    wholeModelBitsPerWeight: totalBits / parameters,
    totalBits,
    parameters,
  };
}

/** Scores 'bits-per-weight' over the targeted Linears, each Linear's own in `parts`, and 'bits-per-weight-whole-model'. */
export function sizeEvaluator({ targets }: Pick<ModelSizeOptions, 'targets'> = {}): Evaluator {
  return {
    name: 'size',
    version: 1,
    async evaluate(model, { reference }) {
      const size = measureSize(model, { reference, targets });
      const isTarget = targets ?? (() => true);
      const parts = Object.fromEntries(
        size.linears.filter(({ path }) => isTarget(path)).map(({ path, bitsPerWeight }) => [path, bitsPerWeight]),
      );
      return [
        { ...exact('bits-per-weight', size.bitsPerWeight, size.targetedWeights, { counted: 'codes, scales, offsets, adapters' }), parts },
        exact('bits-per-weight-whole-model', size.wholeModelBitsPerWeight, size.parameters, { counted: 'all tensors' }),
      ];
    },
  };
}

/**
 * Bytes of all files below a directory.
 * @throws DIRECTORY_MISSING when it cannot be read.
 */
export async function measureDisk(directory: string): Promise<{ readonly bytes: number; readonly files: number }> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch((cause: Error) => {
    throw new LowbitError(
      'DIRECTORY_MISSING',
      `${directory}: cannot be read (${cause.message}); pass the directory the model was saved to`,
      { cause },
    );
  });
  const files = entries.filter((entry) => entry.isFile());
  const sizes = await Promise.all(files.map(async (entry) => (await stat(join(entry.parentPath, entry.name))).size));
  return { bytes: total(sizes), files: files.length };
}

/** Score 'bytes-on-disk' of a saved model. */
export function diskEvaluator(directory: string): Evaluator {
  return {
    name: 'disk',
    version: 1,
    async evaluate() {
      const { bytes, files } = await measureDisk(directory);
      return [exact('bytes-on-disk', bytes, files, { counted: 'all files of the directory' })];
    },
  };
}

function exact(evaluator: string, value: number, samples: number, protocol: Score['protocol']): Score {
  return { evaluator, version: 1, value, stderr: 0, samples, higherIsBetter: false, protocol };
}

function linearsOf({ blocks }: Model): Map<string, Linear> {
  return new Map(blocks.flatMap((block) => Object.entries(block.linears).map(([name, linear]) => [`${block.path}.${name}`, linear])));
}

/** Weights of the Linears of the blocks; a residual stream that a transform has widened counts with the model's own width. */
function weightsOf(model: Model): Map<string, number> {
  const { width, config } = model;
  const narrowed = (features: number, isStream: boolean): number => (isStream && features === width ? config.hiddenSize : features);
  return new Map(
    model.blocks.flatMap((block) =>
      block.groups.flatMap(({ linears, reads, writesResidual }) =>
        linears.map((name) => {
          const { inFeatures, outFeatures } = block.linears[name];
          return [`${block.path}.${name}`, narrowed(inFeatures, 'norm' in reads) * narrowed(outFeatures, writesResidual)] as const;
        }),
      ),
    ),
  );
}

/** Bits of everything that is in no block's Linear weights. */
function restBits({ embedding, blocks, norm, head }: Model): number {
  const isTied = head instanceof DenseLinear && head.weight === embedding.weight;
  const elementBits = head instanceof DenseLinear ? head.bitsPerElement : 16;
  const normSize = ({ weight, bias }: Norm): number => (weight?.size ?? 0) + (bias?.size ?? 0);
  const blockElements = ({ norms, linears }: Block): number =>
    total(Object.values(norms).map(normSize)) + total(Object.values(linears).map((linear) => biasElements(linear.state())));
  const elements = embedding.size + total(blocks.map(blockElements)) + normSize(norm) + biasElements(head.state());
  return elements * elementBits + (isTied ? 0 : head.storageBits);
}

function biasElements({ tensors, parts }: LinearState): number {
  return (tensors['bias']?.size ?? 0) + total(Object.values(parts ?? {}).map(biasElements));
}

/** Elements of all tensors of a dense model; of a quantized or widened one, of the weights its parts stand for. */
function parametersOf(model: Model): number {
  const norms = [...model.blocks.flatMap((block) => Object.values(block.norms)), model.norm];
  const linears = [...linearsOf(model).values()];
  const isTied = model.head instanceof DenseLinear && model.head.weight === model.embedding.weight;
  const biases = [...linears, model.head].map((linear) => biasElements(linear.state()));
  const { hiddenSize } = model.config;
  // Tokens, and positions where they are learned.
  const embedded = model.embedding.size / model.width + (isTied ? 0 : model.head.outFeatures);
  // A norm whose weight has been folded into its readers had one.
  const ofNorms = norms.map(({ size, bias }) => (bias ? 2 : 1) * size);
  return total([...weightsOf(model).values()]) + total(biases) + total(ofNorms) + embedded * hiddenSize;
}

function total(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
