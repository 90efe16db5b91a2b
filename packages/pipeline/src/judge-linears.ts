// How far each Linear is from the dense one after a stage that works on many at once: refineBlock on a block, finetune on the model.
import {
  type Batches,
  type Block,
  batchesOf,
  flattenRows,
  gram,
  type LinearGroup,
  type Model,
  materialize,
  type Tensor,
} from '@lowbit/core';
import { relativeOutputErrors } from './output-error.js';
import type { PlannedStep } from './plan.js';
import { resolveTree } from './resolve.js';
import type { Run } from './run.js';

/** Batches that the errors are told on. */
export const JUDGED_BATCHES = 4;

/** A block that a stage has done with. */
interface JudgedBlock {
  readonly block: Block;
  /** In full precision and in the same basis; undefined when there is none. */
  readonly dense: Block | undefined;
  /** What enters the block; empty where there is no calibration. */
  readonly inputs: Batches;
  /** Its Linears that the stage has worked on. */
  readonly names: readonly string[];
  /** Of the stage, for each of them. */
  readonly milliseconds: number;
}

/** Says of each Linear what has become of it. The error is that of the whole Linear, with what has been put around it. */
export async function judgeBlock(
  run: Run,
  { index }: PlannedStep,
  { block, dense, inputs, names, milliseconds }: JudgedBlock,
): Promise<void> {
  for (const group of block.groups) {
    const ours = group.linears.filter((name) => names.includes(name));
    const folded = dense && ours.length > 0 ? await gramOf(run, block, group, inputs) : undefined;
    for (const name of ours) {
      const path = `${block.path}.${name}`;
      const linear = block.linears[name];
      const original = dense?.linears[name];
      const nearest = folded && original && (await run.nearest?.(original, linear, path));
      const [error, nearestError] =
        folded && original ? await relativeOutputErrors(run.backend, original, nearest ? [linear, nearest] : [linear], folded) : [];
      const bitsPerWeight = linear.storageBits / (linear.inFeatures * linear.outFeatures);
      run.emit({ type: 'linear-done', step: index, path, error, nearestError, tokens: undefined, bitsPerWeight, milliseconds });
    }
  }
}

/** Σ xᵀx over what the group reads in the first batches; undefined where there are none. */
async function gramOf({ backend }: Run, block: Block, group: LinearGroup, inputs: Batches): Promise<Tensor | undefined> {
  let total: Tensor | undefined;
  for (let i = 0; i < Math.min(JUDGED_BATCHES, inputs.length); i++) {
    const ofBatch = gram.of(flattenRows(block.trace(await inputs.at(i)).inputs[group.name]));
    const release = total && { release: [total] };
    [total] = await backend.evaluate([total ? gram.merge(total, ofBatch) : ofBatch], release);
  }
  return total;
}

/** The same of a whole model, on what enters its blocks as they have become, one block after the other. */
export async function judgeModel(
  run: Run,
  planned: PlannedStep,
  { model, dense, milliseconds }: { readonly model: Model; readonly dense: Model | undefined; readonly milliseconds: number },
): Promise<void> {
  const { backend, calibration } = run;
  const namesIn = ({ path, linears }: Block): string[] => Object.keys(linears).filter((name) => planned.options.has(`${path}.${name}`));
  const last = model.blocks.findLastIndex((block) => namesIn(block).length > 0);
  const embedding = await materialize(model.embedding);
  let streams: readonly Tensor[] = [];
  for (let i = 0; i < Math.min(JUDGED_BATCHES, calibration.length); i++) {
    streams = [...streams, ...(await backend.evaluate([embedding.forward(await calibration.at(i))]))];
  }
  for (const [index, lazy] of model.blocks.slice(0, last + 1).entries()) {
    const block = await resolveTree(backend, lazy);
    const names = namesIn(block);
    const reference = dense && names.length > 0 ? await resolveTree(backend, dense.blocks[index]) : undefined;
    const each = milliseconds / planned.options.size;
    await judgeBlock(run, planned, { block, dense: reference, inputs: batchesOf(streams), names, milliseconds: each });
    const outputs: Tensor[] = [];
    if (index < last) for (const x of streams) outputs.push(...(await backend.evaluate([block.forward(x)], { release: [x] })));
    streams = outputs;
  }
}
