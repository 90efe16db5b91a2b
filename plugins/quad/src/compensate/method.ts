// Compensation as a method: outlier columns that make up for what quantizing the rest has changed, in closed form.
import {
  add,
  type Block,
  type BlockContext,
  defineMethod,
  gram,
  type LinearGroup,
  LowbitError,
  readFloats,
  slice,
  type Tensor,
  tensor,
} from '@lowbit/core';
import { SplitLinear } from '@lowbit/quant';
import { storedColumns } from '../stored.js';
import { bestColumns, energies } from './columns.js';
import { type CompensateOptions, compensateOptions } from './options.js';
import { type Reading, readingOf } from './reading.js';

type Context = BlockContext<CompensateOptions>;

/**
 * The outlier columns of QUAD (arXiv 2503.19353) as free parameters: after any weight quantizer, those that bring the outputs on the
 * calibration closest to what the dense weight gives for the same inputs. Codes, scales and everything else stay, and it costs nothing
 * at run time. Targeted Linears without outlier columns are passed over.
 */
export const compensate = defineMethod({
  name: 'compensate',
  version: 1,
  description: 'Outlier columns that make up for the rounding of the other weights and of activations, in closed form',
  options: compensateOptions,
  refineBlock: compensateBlock,
});

async function compensateBlock(given: Block, context: Context): Promise<Block> {
  const targeted = (group: LinearGroup, block: Block): Target[] =>
    group.linears.flatMap((name) => {
      const [linear, options] = [block.linears[name], context.optionsFor(name)];
      return options && linear instanceof SplitLinear
        ? [{ name, split: linear, options, reading: readingOf(linear, options.activations) }]
        : [];
    });
  const groups = given.groups.filter((group) => targeted(group, given).length > 0);
  if (groups.length === 0) {
    throw new LowbitError(
      'LINEAR_NOT_SPLIT',
      `${given.path}: no targeted Linear has outlier columns; put quad with a rank above 0 before this step, or change its targets`,
    );
  }
  const dense = await context.reference();
  let block = given;
  for (const [index, group] of groups.entries()) {
    // Later groups read what the columns of earlier ones have become.
    const targets = targeted(group, block);
    const folded = await foldReadings(block, group, targets, context, (share) => context.progress(index + share, groups.length));
    const changed: Record<string, SplitLinear> = {};
    for (const target of targets) {
      const weight = dense.linears[target.name].effectiveWeight();
      changed[target.name] = await compensated(target, weight, folded.get(target.reading.key) as Tensor, context);
    }
    block = block.with({ linears: changed });
  }
  return block;
}

interface Target {
  readonly name: string;
  readonly split: SplitLinear;
  readonly options: CompensateOptions;
  readonly reading: Reading;
}

/** Gram matrix of each reading of a group's inputs. */
async function foldReadings(
  block: Block,
  group: LinearGroup,
  targets: readonly Target[],
  { backend, inputs }: Context,
  progress: (share: number) => void,
): Promise<Map<string, Tensor>> {
  const readings = new Map(targets.map(({ reading }) => [reading.key, reading]));
  const totals = new Map<string, Tensor>();
  for (let i = 0; i < inputs.length; i++) {
    const read = block.trace(await inputs.at(i)).inputs[group.name];
    for (const [key, reading] of readings) {
      const [total, part] = [totals.get(key), gram.of(reading.rows(read))];
      const [next] = await backend.evaluate([total ? gram.merge(total, part) : part], total && { release: [total] });
      totals.set(key, next);
    }
    progress((i + 1) / inputs.length);
  }
  return totals;
}

/** The layer with the best columns, or as it is where they are no better once they are stored. */
async function compensated(
  { name, split, options, reading }: Target,
  weight: Tensor,
  total: Tensor,
  { backend, log }: Context,
): Promise<SplitLinear> {
  const { rank, outFeatures, inFeatures, outlierDtype } = split;
  const [deviation, dense] = await backend.evaluate([reading.deviation(weight), weight]);
  const { delta, dampening } = await bestColumns(backend, { deviation, gram: total, rank, dampening: options.dampening });
  const columns = await readFloats((await backend.evaluate([add(slice(dense, 1, 0, rank), delta)]))[0]);
  const made = split.with({ outlier: tensor(storedColumns(columns, outlierDtype), [outFeatures, rank]) });
  const [before, after] = await energies(backend, [deviation, readingOf(made, options.activations).deviation(dense)], total);
  const [signal] = await energies(backend, [dense], slice(slice(total, 0, 0, inFeatures), 1, 0, inFeatures));
  const relative = (energy: number): number => (signal === 0 ? 0 : energy / signal);
  const kept = after < before;
  log({ linear: name, columns: rank, errorBefore: relative(before), errorAfter: relative(kept ? after : before), kept, dampening });
  return kept ? made : split;
}
