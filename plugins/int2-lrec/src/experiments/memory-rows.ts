// A model's checkpoints, its adapters and what fine-tuning takes, calculated from its shape.
import type { ExperimentModel, ExperimentRow } from '@lowbit/core';
import {
  adapterParameters,
  bitsPerWeight,
  type CodeFormat,
  configShape,
  fittingGroupSize,
  GPU_CONTEXT_BYTES,
  groupsOf,
  llama7B,
  logitBytes,
  type ModelShape,
  parameterCount,
  publishedRatios,
  quantizedBytes,
  trainingMemory,
} from '../memory-model.js';
import { runMemory } from '../run-memory.js';

const GB = 1e9;
const two = ['q_proj', 'v_proj'];
const six = [...two, 'k_proj', 'o_proj', 'gate_proj', 'up_proj'];
const seven = [...six, 'down_proj'];

/** Figures of the paper's abstract. */
export const PUBLISHED = { memory: 5.6, overhead: 1.05 };

/** A model, and how its figures are taken. */
interface Sized {
  /** As tables call it. */
  readonly config: string;
  readonly shape: ModelShape;
  /** Of its codes. */
  readonly groupSize: number;
  /** Whether they are stored. */
  readonly groupIndices: boolean;
  /** Of the windows that it is fine-tuned on. */
  readonly tokens: number;
  readonly isPublished: boolean;
}

/** The model of the paper, with groups and kernels of the paper. */
const published: Sized = { config: 'LLaMA-7B', shape: llama7B, groupSize: 128, groupIndices: true, tokens: 512, isPublished: true };

export function publishedRows(): ExperimentRow[] {
  return [...checkpointRows(published), ...tuningRows(published)];
}

/** Any other model, as this toolkit stores it. */
export function modelRows({ name, config, tensorBytes }: ExperimentModel): ExperimentRow[] {
  const shape = configShape(config);
  const tokens = Math.min(512, config.contextLength);
  const sized: Sized = { config: name, shape, groupSize: fittingGroupSize(shape), groupIndices: false, tokens, isPublished: false };
  const stored =
    tensorBytes === null
      ? []
      : [{ config: name, quantity: 'tensors as they lie on disk', baseline: '', unit: 'GB', counted: tensorBytes / GB }];
  return [...stored, ...checkpointRows(sized), ...tuningRows(sized)];
}

type Figure = (quantity: string, baseline: string, unit: string, calculated: number, published?: number) => ExperimentRow;

function figureOf({ config, isPublished }: Sized): Figure {
  return (quantity, baseline, unit, calculated, published) => ({
    ...{ config, quantity, baseline, unit, calculated },
    ...(isPublished && published !== undefined && { published }),
  });
}

function checkpointRows(sized: Sized): ExperimentRow[] {
  const { shape, groupSize, groupIndices } = sized;
  const [figure, groups] = [figureOf(sized), groupsOf(groupSize)];
  const int = (bits: number, size = groupSize): CodeFormat => ({ bits, groupSize: size, groupIndices });
  const adapters = adapterParameters(shape, 32, six);
  const onAll = adapterParameters(shape, 32, seven);
  const { overhead } = publishedRatios(shape, sized);
  const share = (quantity: string, baseline: string, bytes: number, format: CodeFormat): ExperimentRow =>
    figure(quantity, baseline, 'times', 1 + bytes / quantizedBytes(shape, format));
  const dense = 2 * parameterCount(shape);
  return [
    figure('checkpoint in float16', '', 'GB', dense / GB),
    ...[8, 4, 3, 2].flatMap((bits) => [
      figure(`checkpoint, INT${bits} ${groups}`, '', 'GB', quantizedBytes(shape, int(bits)) / GB),
      figure(`weight of the blocks, INT${bits} ${groups}`, '', 'bits', bitsPerWeight(shape, int(bits))),
    ]),
    figure('adapters of rank 8 on q and v', '', 'million elements', adapterParameters(shape, 8, two) / 1e6),
    figure('adapters of rank 32 on all Linears but down_proj', '', 'million elements', adapters / 1e6),
    figure('adapters of rank 32 on all Linears', '', 'million elements', onAll / 1e6),
    figure(overhead.of, overhead.over, 'times', overhead.ratio, PUBLISHED.overhead),
    share('the same with down_proj', 'the INT2 checkpoint alone', 2 * onAll, int(2)),
    share('the same with adapters in float32', 'the INT2 checkpoint alone', 4 * adapters, int(2)),
    share('the same with one group an output', 'the INT2 checkpoint alone, one group an output', 2 * adapters, int(2, -1)),
    share('the same with INT4 codes', 'the INT4 checkpoint alone', 2 * adapters, int(4)),
    figure(
      'checkpoint in float16',
      'INT2 codes with those float16 adapters',
      'times',
      dense / (quantizedBytes(shape, int(2)) + 2 * adapters),
    ),
  ];
}

/** What adapters of rank 8 on q and v are trained on, in the order of the figure. */
export const bases = ['float32 weights', 'float16 weights', 'INT4 codes', 'INT4 codes, 4 windows', 'INT2 codes'] as const;

/** Blocks are computed again for the backward pass, and a GPU holds a context beside all. */
function tuningRows(sized: Sized): ExperimentRow[] {
  const { config, shape, groupSize, groupIndices, tokens, isPublished } = sized;
  const figure = figureOf(sized);
  const adapters = adapterParameters(shape, 8, two);
  const codes = (bits: number): number => quantizedBytes(shape, { bits, groupSize, groupIndices });
  const tuning = (weights: number, windows = 1, activationBytes = 2) => {
    const parts = trainingMemory(shape, weights, adapters, { windows, tokens, activationBytes });
    return { ...parts, total: parts.total + GPU_CONTEXT_BYTES };
  };
  const runs: Readonly<Record<(typeof bases)[number], ReturnType<typeof tuning>>> = {
    'float32 weights': tuning(4 * parameterCount(shape), 1, 4),
    'float16 weights': tuning(2 * parameterCount(shape)),
    'INT4 codes': tuning(codes(4)),
    'INT4 codes, 4 windows': tuning(codes(4), 4),
    'INT2 codes': tuning(codes(2)),
  };
  const { memory } = publishedRatios(shape, sized);
  const bare = publishedRatios(shape, { ...sized, contextBytes: 0 }).memory;
  const own = (weights: 'float32' | 'INT2'): number => {
    const held = weights === 'INT2' ? ({ bits: 2, groupSize, zero: 'integer' } as const) : weights;
    return runMemory(shape, { weights: held, adapters, windows: 1, tokens, process: 0 }).total;
  };
  return [
    ...bases.map((base) => figure(`fine-tuning adapters on ${base}`, '', 'GB', runs[base].total / GB)),
    figure(memory.of, memory.over, 'times', memory.ratio, PUBLISHED.memory),
    figure('the same on float16 weights', memory.over, 'times', runs['float16 weights'].total / runs['INT4 codes'].total),
    figure('the same on float32 weights, without the GPU context', memory.over, 'times', bare.ratio),
    figure('emef on this engine, INT2 codes, without its process', '', 'GB', own('INT2') / GB),
    figure('the same on float32 weights', 'emef on INT2 codes, both without the process', 'times', own('float32') / own('INT2')),
    ...(isPublished
      ? [figure('cached answers of the dense model, one window of 2048 tokens', '', 'GB', logitBytes(shape, 2048) / GB)]
      : []),
    // For the figure; without a quantity they have no line in the table.
    ...bases.flatMap((run) => {
      const { weights, adapters: trained, activations } = runs[run];
      const parts = { weights, 'adapters, gradients, moments': trained, activations, 'GPU context': GPU_CONTEXT_BYTES };
      return Object.entries(parts).map(([part, bytes]) => ({ config, run, part, GB: bytes / GB }));
    }),
  ];
}
