// What training may change of a quantized block or model: scales, offsets, norms and biases, never codes; in which form, and how each is stored.
import { type Linear, mul, type Norm, readFloats, sub, type Tensor, type TensorMap, tensor, tensorsOf } from '@lowbit/core';
import { QuantizedLinear, type ScaleDtype } from '@lowbit/quant';
import type { NamedTensors } from '@lowbit/train';
import { storedScale, storedValue } from './stored-scales.js';

/** What a tensor is to the one who trains it. */
type Role =
  | { readonly kind: 'scale'; readonly dtype: ScaleDtype }
  | { readonly kind: 'offset'; readonly dtype: ScaleDtype; readonly scale: Tensor; readonly middleCode: number }
  | { readonly kind: 'plain' };

/** Tensors that training may change. They are told apart by identity. */
export type TrainableTensors = ReadonlyMap<Tensor, Role>;

/** The affine layer within a Linear: itself, or what a wrapper (activation quantization) names as its quantizable part. */
export function affineLayerOf(linear: Linear): QuantizedLinear | undefined {
  if (linear instanceof QuantizedLinear) return linear;
  return linear.quantizable && affineLayerOf(linear.quantizable.linear);
}

/** Scale of a layer and its offset where it is free; symmetric and integer zeros follow the scale. */
export function scalesOf({ weight }: QuantizedLinear): TrainableTensors {
  const { scale, offset, scaleDtype: dtype, bits } = weight;
  const roles: [Tensor, Role][] = [[scale, { kind: 'scale', dtype }]];
  if (offset) roles.push([offset, { kind: 'offset', dtype, scale, middleCode: 2 ** (bits - 1) }]);
  return new Map(roles);
}

/** Weight and bias of a norm; they stay in float32, where small steps are not lost. */
export function normTensors({ weight, bias }: Norm): TrainableTensors {
  return new Map([weight, bias].flatMap((t): [Tensor, Role][] => (t ? [[t, { kind: 'plain' }]] : [])));
}

/** The bias of a layer, where it has one. */
export function biasOf({ bias }: QuantizedLinear): TrainableTensors {
  return new Map(bias ? [[bias, { kind: 'plain' }]] : []);
}

/**
 * The parameters that stand for some tensors of a tree. An offset is trained as z = offset + 2^(b−1) · scale, what the signed code 0 stands
 * for: the paper's zero. Adam's steps depend on that choice: unsigned codes have one sign, so that their scale and offset pull alike.
 */
export interface Trainable {
  /** Leaves, by the names that the tensors have in the tree. */
  readonly parameters: NamedTensors;
  /** The tree's own tensors of the same names. */
  readonly original: NamedTensors;
  /** The tree's tensors that values of the parameters stand for: expressions that gradients flow through. */
  tensorsFor(values: NamedTensors): NamedTensors;
  /**
   * The same as leaves, rounded to float16 where the weight's scales are. What would overflow takes the largest value, and a scale that
   * would become 0 the smallest. Parameters that did not move give the tensors' own values.
   */
  storedAs(values: NamedTensors): Promise<NamedTensors>;
}

export async function trainableOf(tree: { map(map: TensorMap): unknown }, tensors: TrainableTensors): Promise<Trainable> {
  const original = new Map([...tensorsOf(tree)].filter(([, t]) => tensors.has(t)));
  const nameOf = new Map([...original].map(([name, t]) => [t, name]));
  const entries = [...original].map(([name, t]) => ({ name, t, role: tensors.get(t) as Role }));
  const parameters = new Map<string, Tensor>();
  for (const { name, t, role } of entries) parameters.set(name, role.kind === 'offset' ? await middleOf(t, role) : t);
  const scaleName = (scale: Tensor): string => nameOf.get(scale) as string;

  return {
    parameters,
    original,
    tensorsFor: (values) =>
      new Map(
        entries.map(({ name, role }) => {
          const value = entry(values, name);
          return [name, role.kind === 'offset' ? sub(value, mul(entry(values, scaleName(role.scale)), role.middleCode)) : value];
        }),
      ),
    async storedAs(values) {
      const stored = new Map<string, Tensor>();
      for (const { name, t, role } of entries) {
        if (role.kind === 'plain') stored.set(name, entry(values, name));
        if (role.kind === 'scale') stored.set(name, await mapped([entry(values, name)], ([s]) => boundedScale(s, role.dtype)));
        if (role.kind !== 'offset') continue;
        const scale = scaleName(role.scale);
        const parts = [entry(values, name), entry(values, scale), entry(parameters, name), role.scale, t];
        const offset = ([z, s, oldZ, oldS, old]: readonly number[]): number =>
          z === oldZ && s === oldS ? old : bounded(z - role.middleCode * boundedScale(s, role.dtype), role.dtype);
        stored.set(name, await mapped(parts, offset));
      }
      return stored;
    },
  };
}

/** What the signed code 0 stands for. */
function middleOf(offset: Tensor, { scale, middleCode }: Extract<Role, { kind: 'offset' }>): Promise<Tensor> {
  return mapped([offset, scale], ([o, s]) => o + middleCode * s);
}

/** A leaf computed element by element from leaves of one shape. */
async function mapped(leaves: readonly Tensor[], compute: (elements: readonly number[]) => number): Promise<Tensor> {
  const data: Float32Array[] = [];
  for (const leaf of leaves) data.push(await readFloats(leaf));
  return tensor(
    data[0].map((_, i) => compute(data.map((values) => values[i]))),
    leaves[0].shape,
  );
}

function entry(values: NamedTensors, name: string): Tensor {
  return values.get(name) as Tensor;
}

const LARGEST_FLOAT16 = 65504;

const clamped = (x: number, dtype: ScaleDtype): number =>
  dtype === 'float16' ? Math.max(-LARGEST_FLOAT16, Math.min(LARGEST_FLOAT16, x)) : x;

const bounded = (x: number, dtype: ScaleDtype): number => storedValue(clamped(x, dtype), dtype);

const boundedScale = (x: number, dtype: ScaleDtype): number => storedScale(clamped(x, dtype), dtype);
