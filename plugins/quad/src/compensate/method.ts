// Compensation as a method: outlier columns that make up for what quantizing the rest has changed, in closed form.
import {
  add,
  type Block,
  type BlockContext,
  type Cost,
  defineMethod,
  type LinearGroup,
  LowbitError,
  quantizablePart,
  readNumber,
  slice,
  type Tensor,
  tensor,
  type Workload,
} from '@lowbit/core';
import { ActivationQuantizedLinear, SplitLinear } from '@lowbit/quant';
import { storedColumns } from '../stored.js';
import { bestColumns, type ColumnSums, columnSums, errorChange } from './columns.js';
import { type CompensateOptions, compensateOptions } from './options.js';

type Context = BlockContext<CompensateOptions>;

/**
 * The outlier columns of QUAD (arXiv 2503.19353) as free parameters: after any weight quantizer, those that bring the outputs on the
 * calibration closest to what the dense weight gives for the same inputs. Biases are left out on both sides. Codes, scales and everything else stay, and it costs nothing
 * at run time. Targeted Linears without outlier columns are passed over.
 */
export const compensate = defineMethod({
  name: 'compensate',
  version: 2,
  description: 'Outlier columns that make up for the rounding of the other weights and of activations, in closed form',
  options: compensateOptions,
  refineBlock: compensateBlock,
  cost: compensationCost,
});

/** Columns of the residual stream that are set apart, about: how many there are is known once a step before has been taken. */
const COLUMNS = 64;

/** Of every group of Linears a forward pass up to it over all windows, with the outputs of both weights; sums over the outlier columns. */
function compensationCost({ linears, windows, tokens, forward }: Workload<CompensateOptions>): Cost {
  const rows = windows * tokens;
  let [flops, bytes] = [2 * windows * forward.flops, 0];
  for (const { inFeatures, outFeatures } of linears) {
    flops += 2 * rows * (2 * outFeatures * inFeatures + COLUMNS * outFeatures + COLUMNS ** 2) + COLUMNS ** 3;
    bytes = Math.max(bytes, 4 * (4 * outFeatures * inFeatures + 8 * COLUMNS * outFeatures));
  }
  return { flops, elements: 3 * windows * forward.elements, bytes: bytes + 8 * forward.bytes };
}

/** A targeted Linear with outlier columns. */
interface Target {
  readonly name: string;
  readonly split: SplitLinear;
  /** The layer as it is to be compared: with its rounding of inputs, or without. */
  readonly compared: SplitLinear;
  /** The weight in full precision, [out, in]. */
  readonly dense: Tensor;
  readonly options: CompensateOptions;
}

async function compensateBlock(given: Block, context: Context): Promise<Block> {
  const reference = await context.reference();
  const groups = given.groups.filter((group) => targetsIn(group, given, reference, context).length > 0);
  if (groups.length === 0) {
    throw new LowbitError(
      'LINEAR_NOT_SPLIT',
      `${given.path}: no targeted Linear has outlier columns; put quad with a rank above 0 before this step, or change its targets`,
    );
  }
  warnIfQuantized(reference, context);
  let block = given;
  for (const [index, group] of groups.entries()) {
    // Later groups read what the columns of earlier ones have become.
    const targets = targetsIn(group, block, reference, context);
    const sums = await foldSums(block, group, targets, context, (share) => context.progress(index + share, groups.length));
    const changed: Record<string, SplitLinear> = {};
    for (const [i, target] of targets.entries()) changed[target.name] = await compensated(target, sums[i], context);
    block = block.with({ linears: changed });
  }
  return block;
}

function targetsIn(group: LinearGroup, block: Block, reference: Block, { optionsFor }: Context): Target[] {
  return group.linears.flatMap((name) => {
    const [split, options] = [block.linears[name], optionsFor(name)];
    if (!(split instanceof SplitLinear) || !options) return [];
    const { rest } = split;
    const isRounded = rest instanceof ActivationQuantizedLinear && options.activations === 'quantized';
    const compared = rest instanceof ActivationQuantizedLinear && !isRounded ? split.with({ rest: rest.base }) : split;
    return [{ name, split, compared, dense: reference.linears[name].effectiveWeight(), options }];
  });
}

/** Of a model that was quantized before this run, the weights are not known. */
function warnIfQuantized({ path, linears }: Block, { optionsFor, warn }: Context): void {
  const quantized = Object.keys(linears).find(
    (name) => optionsFor(name) && linears[name] instanceof SplitLinear && quantizablePart(linears[name]).linear.kind !== 'dense',
  );
  if (!quantized) return;
  warn(
    'REFERENCE_QUANTIZED',
    `${path}.${quantized}: was quantized before this run, so the error of its codes is not known and the columns make up for rounded inputs alone; put compensate into the recipe that quantizes`,
  );
}

/** The sums of all targets over the block's inputs, one evaluation a batch. */
async function foldSums(
  block: Block,
  group: LinearGroup,
  targets: readonly Target[],
  { backend, inputs }: Context,
  progress: (share: number) => void,
): Promise<ColumnSums[]> {
  const weights = await backend.evaluate(targets.map(({ dense }) => dense));
  let totals: readonly Tensor[] | undefined;
  for (let i = 0; i < inputs.length; i++) {
    const x = block.trace(await inputs.at(i)).inputs[group.name];
    const parts = targets.flatMap(({ compared }, t) => {
      const { products, coupling, error, signal } = columnSums(compared, weights[t], x);
      return [products, coupling, error, signal];
    });
    const previous: readonly Tensor[] | undefined = totals;
    totals = await backend.evaluate(previous ? parts.map((part, p) => add(previous[p], part)) : parts, previous && { release: previous });
    progress((i + 1) / inputs.length);
  }
  const folded = totals ?? [];
  return targets.map((_, t) => {
    const [products, coupling, error, signal] = folded.slice(4 * t, 4 * t + 4);
    return { products, coupling, error, signal };
  });
}

/** The layer with the best columns, or as it is where they are no better once they are stored. */
async function compensated({ name, split, dense, options }: Target, sums: ColumnSums, { backend, log }: Context): Promise<SplitLinear> {
  const { rank, outFeatures, outlier, outlierDtype } = split;
  const solution = await bestColumns(backend, sums, outlier, slice(dense, 1, 0, rank), options.dampening);
  const columns = tensor(storedColumns(solution.columns, outlierDtype), [outFeatures, rank]);
  const change = await errorChange(backend, sums, outlier, columns);
  const [error, signal] = [await readNumber(sums.error), await readNumber(sums.signal)];
  const relative = (energy: number): number => (signal === 0 ? 0 : energy / signal);
  const kept = change < 0;
  const errorAfter = relative(Math.max(0, error + (kept ? change : 0)));
  log({ linear: name, columns: rank, errorBefore: relative(error), errorAfter, kept, dampening: solution.dampening });
  return kept ? split.with({ outlier: columns }) : split;
}
