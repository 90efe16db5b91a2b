// What tuning may change of a model: outlier columns and scales, by name, in what form they are trained, and how each is stored.
import {
  type Backend,
  type FinetuneContext,
  type Linear,
  LowbitError,
  type Model,
  mul,
  readFloats,
  type Tensor,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { ActivationQuantizedLinear, LowRankLinear, QuantizedLinear, RotatedLinear, type ScaleDtype, SplitLinear } from '@lowbit/quant';
import { type NamedTensors, type ParameterUnit, reparameterized, type StagedLoss } from '@lowbit/train';
import { storedColumns, storedScales } from '../stored.js';
import type { TuneOptions } from './options.js';

type Part = TuneOptions['parameters'][number];

/** What a tensor is, and how it is stored. */
interface Role {
  readonly part: Part;
  readonly dtype: ScaleDtype;
}

export interface Trainable {
  /**
   * By their names in the model: outlier columns as they are, and scales as factors of what they were, all 1. Adam moves every element by
   * about the rate, which for scales is far more than for columns unless it is a share of them.
   */
  readonly parameters: NamedTensors;
  /** Elements of each kind. */
  readonly counts: Readonly<Record<Part, number>>;
  /** The loss of these parameters, given that of what they stand for in the model. */
  lossOf<Batch>(backend: Backend, loss: StagedLoss<Batch>): StagedLoss<Batch>;
  /** What they stand for, as it is stored: in float16 where the layer says so; a scale keeps its sign and never becomes 0. */
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
  const scales = entries.filter(({ role }) => role.part === 'scale');
  return {
    parameters: new Map(entries.map(({ name, original, role }) => [name, role.part === 'scale' ? onesLike(original) : original])),
    counts: { outlier: countOf('outlier'), scale: countOf('scale') },
    lossOf: (backend, loss) => reparameterized(backend, loss, factorsOf(new Map(scales.map(({ name, original }) => [name, original])))),
    async storedAs(values) {
      const stored = new Map<string, Tensor>();
      for (const { name, original, role } of entries) {
        const elements = await readFloats(values.get(name) as Tensor);
        stored.set(name, tensor(await storedElements(elements, original, role), original.shape));
      }
      return stored;
    },
  };
}

function onesLike({ size, shape }: Tensor): Tensor {
  return tensor(new Float32Array(size).fill(1), shape);
}

async function storedElements(elements: Float32Array, original: Tensor, { part, dtype }: Role): Promise<Float32Array> {
  if (part === 'outlier') return storedColumns(elements, dtype);
  const before = await readFloats(original);
  return storedScales(
    before.map((scale, i) => scale * elements[i]),
    before,
    dtype,
  );
}

/** The scales that factors stand for; together one unit, since each alone is little. */
function factorsOf(starts: NamedTensors): ParameterUnit[] {
  if (starts.size === 0) return [];
  const expressions = (values: NamedTensors): NamedTensors =>
    new Map([...starts].map(([name, start]) => [name, mul(start, values.get(name) as Tensor)]));
  return [{ parameters: [...starts.keys()], expressions }];
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
