// What a run leaves on the disk: the checkpoint, and the store at its largest.
import { type Block, DenseLinear, type Linear, type Model, quantizablePart } from '@lowbit/core';
import { type EstimateOptions, FLOAT, streamBytes } from './estimate-options.js';
import { readsActivations, targetsIn } from './estimate-walk.js';
import type { PlannedStep } from './plan.js';

export interface DiskEstimate {
  /** Finished blocks that stay in memory until the checkpoint is written; 0 with a store. */
  readonly heldBytes: number;
  /** Of the checkpoint. */
  readonly outputBytes: number;
  /** Of the store at its largest, next to the finished checkpoint; 0 without one. */
  readonly storeBytes: number;
}

/** Codes of a Linear, as `bits` and `groupSize` of a weight quantizer say. */
interface Codes {
  readonly bits: number;
  /** Inputs that share a scale. */
  readonly group: number;
}

/** Bits of embedding, head and norms where the head does not say. */
const REST_BITS = 16;

/** Bits of a scale, and of a zero point or offset, in a checkpoint. */
const SCALE_BITS = 16;

/** Bytes of a weight with its share of scales, where no step of the recipe quantizes it because it is already: a code is a byte. */
const CODE_BYTES = 1.25;

export function diskEstimate(planned: readonly PlannedStep[], options: EstimateOptions): DiskEstimate {
  const { model, hasStore } = options;
  const made = codesAfter(planned, model);
  const { head } = model;
  const restBits = head instanceof DenseLinear ? head.bitsPerElement : REST_BITS;
  let outputBytes = (restElements(model) * restBits) / 8;
  let heldBytes = 0;
  for (const { path, linear } of linearsOf(model.blocks)) {
    const codes = made.get(path);
    outputBytes += (codes ? sizeOf(linear) * (codes.bits + (2 * SCALE_BITS) / codes.group) : linear.storageBits) / 8;
    // What stays dense is read from the model's files when it is written.
    if (codes) heldBytes += storedBytes(linear, codes);
  }
  return { heldBytes: hasStore ? 0 : heldBytes, outputBytes, storeBytes: hasStore ? storeBytes(planned, options) : 0 };
}

/** Entries of each step, and the activations of the step that has most of them. Adapters, and states that methods save, are not counted. */
function storeBytes(planned: readonly PlannedStep[], options: EstimateOptions): number {
  const { model } = options;
  let entries = 0;
  let streams = 0;
  let isTransformed = false;
  for (const [index, one] of planned.entries()) {
    const { transform, finetune } = one.step.method;
    const next = planned.at(index + 1)?.step.method;
    isTransformed ||= transform !== undefined;
    // As the runner has it: what a transform leaves is evaluated, and stored, by the walk of the next step where that has one.
    const isLeftToNext = !finetune && next !== undefined && !next.transform && (next.quantizeLinear ?? next.refineBlock) !== undefined;
    const walks = walksBlocks(one) || (isTransformed && !isLeftToNext);
    const made = codesAfter(planned.slice(0, index + 1), model);
    const bytesOf = (blocks: readonly Block[]): number =>
      linearsOf(blocks).reduce((total, { path, linear }) => total + storedBytes(linear, made.get(path)), 0);
    if (walks) {
      entries += bytesOf(isTransformed ? model.blocks : model.blocks.filter((block) => targetsIn(one, block).length > 0));
      isTransformed = false;
    }
    if (finetune) entries += bytesOf(model.blocks);
    streams = Math.max(streams, streamsOf(one, options) * streamBytes(one, options));
  }
  return entries + streams;
}

/**
 * Streams of activations at one time: that which entered a block and that which left it. A method that refines blocks may ask for the same two
 * of the dense model, and has targets, which lie in the store where memory has no room for them.
 */
function streamsOf(planned: PlannedStep, options: EstimateOptions): number {
  if (!options.model.blocks.some((block) => readsActivations(planned, block))) return 0;
  if (!planned.step.method.refineBlock) return 2;
  return streamBytes(planned, options) > options.memory ? 5 : 4;
}

function walksBlocks({ step }: PlannedStep): boolean {
  return step.method.quantizeLinear !== undefined || step.method.refineBlock !== undefined;
}

/** In memory and in a store codes take a byte and scales four, and what is dense is float32. */
function storedBytes(linear: Linear, codes: Codes | undefined): number {
  const isDense = quantizablePart(linear).linear instanceof DenseLinear;
  const each = codes ? 1 + (2 * FLOAT) / codes.group : isDense ? FLOAT : CODE_BYTES;
  return sizeOf(linear) * each;
}

/** Codes of each Linear after these steps: the last one that says `bits` and `groupSize`, as weight quantizers call them, decides. */
function codesAfter(planned: readonly PlannedStep[], { blocks }: Model): Map<string, Codes> {
  const made = new Map<string, Codes>();
  for (const { path, linear } of linearsOf(blocks)) {
    for (const { options } of planned) {
      const codes = codesOf(options.get(path), linear);
      if (codes) made.set(path, codes);
    }
  }
  return made;
}

function codesOf(options: unknown, { inFeatures }: Linear): Codes | undefined {
  if (typeof options !== 'object' || options === null || !('bits' in options) || !('groupSize' in options)) return undefined;
  const { bits, groupSize } = options;
  if (typeof bits !== 'number' || typeof groupSize !== 'number') return undefined;
  return { bits, group: groupSize === -1 ? inFeatures : groupSize };
}

/** Elements of embedding, head and norms. */
export function restElements({ embedding, head, norm, config, width, blocks }: Model): number {
  const ofHead = config.tiedEmbeddings ? 0 : head.inFeatures * head.outFeatures;
  return embedding.size + ofHead + (norm.weight?.size ?? 0) + 2 * blocks.length * width;
}

function linearsOf(blocks: readonly Block[]): { readonly path: string; readonly linear: Linear }[] {
  return blocks.flatMap(({ path, linears }) => Object.entries(linears).map(([name, linear]) => ({ path: `${path}.${name}`, linear })));
}

function sizeOf({ inFeatures, outFeatures }: Linear): number {
  return inFeatures * outFeatures;
}
