// What tuning may change of a model: outlier columns and scales, by name, and how each is stored.
import { type FinetuneContext, type Linear, LowbitError, type Model, readFloats, type Tensor, tensor, tensorsOf } from '@lowbit/core';
import { ActivationQuantizedLinear, LowRankLinear, QuantizedLinear, RotatedLinear, type ScaleDtype, SplitLinear } from '@lowbit/quant';
import type { NamedTensors } from '@lowbit/train';
import { storedColumns, storedScales } from '../stored.js';
import type { TuneOptions } from './options.js';

type Part = TuneOptions['parameters'][number];

/** What a tensor is, and how it is stored. */
interface Role {
  readonly part: Part;
  readonly dtype: ScaleDtype;
}

export interface Trainable {
  /** Leaves by their names in the model. */
  readonly parameters: NamedTensors;
  /** Elements of each kind. */
  readonly counts: Readonly<Record<Part, number>>;
  /** The same parameters as they are stored: in float16 where the layer says so; a scale keeps its sign and never becomes 0. */
  storedAs(values: NamedTensors): Promise<NamedTensors>;
}

/**
 * The parameters of a model in memory that the step trains.
 * @throws TUNE_NOTHING when its Linears have none of them.
 */
export function trainableOf(model: Model, { optionsFor }: Pick<FinetuneContext<TuneOptions>, 'optionsFor'>): Trainable {
  const roles = new Map(
    model.blocks.flatMap(({ path, linears }) =>
      Object.entries(linears).flatMap(([name, linear]) => {
        const wanted = optionsFor(`${path}.${name}`)?.parameters ?? [];
        return [...rolesIn(linear)].filter(([, { part }]) => wanted.includes(part));
      }),
    ),
  );
  if (roles.size === 0) {
    throw new LowbitError(
      'TUNE_NOTHING',
      "tune: no targeted Linear has what 'parameters' names: outlier columns come from quad, scales from a weight quantizer; put them before this step, or change its targets or parameters",
    );
  }
  const entries = [...tensorsOf(model)].flatMap(([name, original]) => {
    const role = roles.get(original);
    return role ? [{ name, original, role }] : [];
  });
  const countOf = (part: Part): number =>
    entries.reduce((total, { original, role }) => total + (role.part === part ? original.size : 0), 0);
  return {
    parameters: new Map(entries.map(({ name, original }) => [name, original])),
    counts: { outlier: countOf('outlier'), scale: countOf('scale') },
    async storedAs(values) {
      const stored = new Map<string, Tensor>();
      for (const { name, original, role } of entries) {
        const elements = await readFloats(values.get(name) as Tensor);
        const kept =
          role.part === 'outlier' ? storedColumns(elements, role.dtype) : storedScales(elements, await readFloats(original), role.dtype);
        stored.set(name, tensor(kept, original.shape));
      }
      return stored;
    },
  };
}

/** Outlier columns and scales of a Linear, within whatever wraps them. */
function rolesIn(linear: Linear): Map<Tensor, Role> {
  if (linear instanceof QuantizedLinear) return new Map([[linear.weight.scale, { part: 'scale', dtype: linear.weight.scaleDtype }]]);
  if (linear instanceof SplitLinear) {
    return new Map([[linear.outlier, { part: 'outlier', dtype: linear.outlierDtype }], ...rolesIn(linear.rest)]);
  }
  const isWrapper = linear instanceof ActivationQuantizedLinear || linear instanceof RotatedLinear || linear instanceof LowRankLinear;
  return isWrapper ? rolesIn(linear.base) : new Map();
}
