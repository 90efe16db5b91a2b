// What training may change of a quantized block or model: scales, offsets, norms and biases, never codes; and how each is stored.
import { type Linear, type Norm, readFloats, type Tensor, type TensorMap, tensor, tensorsOf } from '@lowbit/core';
import { QuantizedLinear, type ScaleDtype } from '@lowbit/quant';
import type { NamedTensors } from '@lowbit/train';
import { storedScale, storedValue } from './stored-scales.js';

/** How the values of a tensor are stored. */
interface Storage {
  readonly dtype: ScaleDtype;
  /** Nobody has to fear dividing by it. */
  readonly isScale: boolean;
}

/** Tensors that training may change, with how they are stored. Tensors are told apart by identity. */
export type TrainableTensors = ReadonlyMap<Tensor, Storage>;

/** The affine layer within a Linear: itself, or what a wrapper (activation quantization) names as its quantizable part. */
export function affineLayerOf(linear: Linear): QuantizedLinear | undefined {
  if (linear instanceof QuantizedLinear) return linear;
  return linear.quantizable && affineLayerOf(linear.quantizable.linear);
}

/** Scale of a layer and its offset where it is free; symmetric and integer zeros follow the scale. */
export function scalesOf({ weight }: QuantizedLinear): TrainableTensors {
  const { scale, offset, scaleDtype: dtype } = weight;
  return new Map([[scale, { dtype, isScale: true }], ...(offset ? ([[offset, { dtype, isScale: false }]] as const) : [])]);
}

const asTheyAre: Storage = { dtype: 'float32', isScale: false };

/** Weight and bias of a norm; they stay in float32, where small steps are not lost. */
export function normTensors({ weight, bias }: Norm): TrainableTensors {
  return new Map([weight, bias].flatMap((t) => (t ? [[t, asTheyAre] as const] : [])));
}

/** The bias of a layer, where it has one. */
export function biasOf({ bias }: QuantizedLinear): TrainableTensors {
  return new Map(bias ? [[bias, asTheyAre]] : []);
}

/** The trainable tensors of a tree by their names in it. */
export function namedTrainables(tree: { map(map: TensorMap): unknown }, trainable: TrainableTensors): NamedTensors {
  return new Map([...tensorsOf(tree)].filter(([, t]) => trainable.has(t)));
}

/**
 * Trained values as they are stored: rounded to float16 where the weight's scales are. What would overflow takes the largest value, and
 * a scale that would become 0 the smallest.
 */
export async function storedValues(original: NamedTensors, trainable: TrainableTensors, trained: NamedTensors): Promise<NamedTensors> {
  const stored = new Map<string, Tensor>();
  for (const [name, t] of trained) {
    const storage = trainable.get(original.get(name) as Tensor) ?? asTheyAre;
    const isUnchanged = storage === asTheyAre;
    stored.set(
      name,
      isUnchanged
        ? t
        : tensor(
            (await readFloats(t)).map((x) => storedForm(x, storage)),
            t.shape,
          ),
    );
  }
  return stored;
}

const LARGEST_FLOAT16 = 65504;

function storedForm(x: number, { dtype, isScale }: Storage): number {
  const bounded = dtype === 'float16' ? Math.max(-LARGEST_FLOAT16, Math.min(LARGEST_FLOAT16, x)) : x;
  return isScale ? storedScale(bounded, dtype) : storedValue(bounded, dtype);
}
