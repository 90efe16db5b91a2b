// Folds statistics of what a group's Linears read over the calibration batches.
import {
  abs,
  add,
  type Block,
  div,
  flattenRows,
  type LinearGroup,
  LowbitError,
  type QuantizablePart,
  quantizablePart,
  readNumber,
  round,
  type Statistic,
  slice,
  sum,
  type Tensor,
} from '@lowbit/core';
import type { Stream } from './activations.js';
import type { Run } from './run.js';

/** What a method folds of each Linear's input, by path. */
export type StatisticsByPath = ReadonlyMap<string, Readonly<Record<string, Statistic>>>;

/** Folded statistics of a group. */
export interface GroupStatistics {
  /** Rows (tokens) that were folded. */
  readonly rows: number;
  /** Rows of what the Linear's part reads that are not 0 throughout: tokens that reach it, where a router sends it only some. */
  tokens(name: string): number;
  /** The statistic of what the Linear's part reads: one leaf for all Linears that read the same, since methods share work by it. */
  of(name: string, statistic: Statistic): Promise<Tensor>;
}

/** Something that is read, and the statistics that are wanted of it. */
interface Reading {
  readonly statistics: readonly Statistic[];
  /** What becomes of the group's input; undefined for the input itself. */
  readonly reads?: (x: Tensor) => Tensor;
}

/** Stands for the group's input among the readings, beside names of Linears. */
const SHARED = '';

/**
 * What has to be folded: statistics of the group's input once for all Linears that read it as it is, and apart for each Linear
 * whose wrapper makes something else of it. Empty when the group's Linears fold nothing.
 */
function readingsOf(byPath: StatisticsByPath, block: Block, group: LinearGroup): Map<string, Reading> {
  const readings = new Map<string, Reading>();
  for (const name of group.linears) {
    const wanted = Object.values(byPath.get(`${block.path}.${name}`) ?? {});
    if (wanted.length === 0) continue;
    const { reads, start, end } = quantizablePart(block.linears[name]);
    const reader = reads ? name : SHARED;
    const statistics = [...new Set([...(readings.get(reader)?.statistics ?? []), ...wanted])];
    readings.set(reader, reads ? { statistics, reads: (x) => slice(reads(x), -1, start, end) } : { statistics });
  }
  return readings;
}

/** Whether some Linear of the group folds anything. */
export function foldsStatistics(byPath: StatisticsByPath, block: Block, group: LinearGroup): boolean {
  return group.linears.some((name) => byPath.has(`${block.path}.${name}`));
}

/** Against this the magnitude of a row is 0 or boundless. */
const TINY = 1e-36;

/** Rows that are not 0 throughout; NaN when some element is not finite. x is [rows, features]. */
function liveRows(x: Tensor): Tensor {
  const magnitude = sum(abs(x), [1]);
  return sum(round(div(magnitude, add(magnitude, TINY))));
}

/**
 * Folds over what the group reads in the block as it is now, so that groups quantized before it are seen quantized ("true
 * sequential", GPTQ). One evaluation a batch; the old totals' memory is handed back to the backend.
 * @throws NOT_FINITE naming the Linear whose input holds NaN or Infinity.
 */
export async function foldStatistics(
  run: Run,
  byPath: StatisticsByPath,
  block: Block,
  group: LinearGroup,
  inputs: Stream,
  onBatch: () => void,
): Promise<GroupStatistics> {
  const parts = new Map(group.linears.map((name) => [name, quantizablePart(block.linears[name])]));
  const readings = readingsOf(byPath, block, group);
  const folds = [...readings].flatMap(([reader, { statistics }]) => statistics.map((statistic) => ({ reader, statistic })));
  let totals: readonly Tensor[] | undefined;
  let rows = 0;
  const live = new Map<string, number>();
  for (let i = 0; folds.length > 0 && i < inputs.length; i++) {
    const input = block.trace(await inputs.at(i)).inputs[group.name];
    const read = new Map([...readings].map(([reader, { reads }]) => [reader, flattenRows(reads ? reads(input) : input)]));
    const previous: readonly Tensor[] | undefined = totals;
    const folded = folds.map(({ reader, statistic }, j) => {
      const ofBatch = statistic.of(read.get(reader) as Tensor);
      return previous ? statistic.merge(previous[j], ofBatch) : ofBatch;
    });
    const counts = [...read.values()].map(liveRows);
    const evaluated = await run.backend.evaluate([...folded, ...counts], previous && { release: previous });
    totals = evaluated.slice(0, folded.length);
    for (const [j, reader] of [...read.keys()].entries()) {
      const count = await readNumber(evaluated[folded.length + j]);
      if (Number.isNaN(count)) throw notFinite(byPath, block, group, reader, `batch ${i + 1} of ${inputs.length}`);
      live.set(reader, (live.get(reader) ?? 0) + count);
    }
    rows += flattenRows(input).shape[0];
    onBatch();
  }
  const valueOf = (reader: string, statistic: Statistic): Tensor => {
    const value = totals?.[folds.findIndex((fold) => fold.reader === reader && fold.statistic === statistic)];
    if (!value) throw new LowbitError('INTERNAL', `statistic '${statistic.name}' of group '${group.name}' was not folded`);
    return value;
  };
  const restricted = restrictions(run);
  return {
    rows,
    tokens: (name) => live.get((parts.get(name) as QuantizablePart).reads ? name : SHARED) ?? 0,
    of: async (name, statistic) => {
      const part = parts.get(name) as QuantizablePart;
      return part.reads
        ? valueOf(name, statistic)
        : restricted(statistic, valueOf(SHARED, statistic), part, block.linears[name].inFeatures);
    },
  };
}

function notFinite(byPath: StatisticsByPath, { path }: Block, { linears }: LinearGroup, reader: string, where: string): LowbitError {
  const first = reader === SHARED ? linears.find((name) => byPath.has(`${path}.${name}`)) : reader;
  return new LowbitError(
    'NOT_FINITE',
    `${path}.${first}: its input holds NaN or Infinity in ${where}; check the weights of this block and of those before it`,
  );
}

/** A statistic of a group's input, for the features that a part reads. */
function restrictions(run: Run) {
  const known = new Map<Statistic, Map<string, Tensor>>();
  return async (statistic: Statistic, whole: Tensor, { start, end }: QuantizablePart, inFeatures: number): Promise<Tensor> => {
    if (start === 0 && end === inFeatures) return whole;
    const ofStatistic = known.get(statistic) ?? new Map<string, Tensor>();
    known.set(statistic, ofStatistic);
    const key = `${start}:${end}`;
    const found = ofStatistic.get(key);
    if (found) return found;
    const [made] = await run.backend.evaluate([statistic.restrict(whole, start, end)]);
    ofStatistic.set(key, made);
    return made;
  };
}
