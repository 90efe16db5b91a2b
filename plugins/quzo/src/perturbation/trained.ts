// A model in memory of which some tensors are trained: their elements are the run's own and change in place.
import { LowbitError, type Model, materialize, read, readFloats, roundToFloat16, type Shape, type Tensor, tensor } from '@lowbit/core';
import type { AffineWeight } from '@lowbit/quant';
import type { Parameter } from '../hooks.js';
import { createSlots, type Slots } from '../update/slots.js';
import { type Plan, type PlannedParameter, rolesByName, type TensorRole } from './parameters.js';

/** A parameter with its elements. */
export interface TrainedParameter {
  readonly parameter: Parameter;
  /** Read by the model's forward pass, written by updates. */
  readonly values: Uint8Array | Float32Array;
  /** The parameter's shape, of codes with the groups on an axis of their own: [out, groups, inputs of a group]. */
  readonly layout: Shape;
  /** Numbers that the updater keeps. */
  readonly slots: Slots;
  /** Magnitudes of the weights that codes stand for, or of the elements. */
  fillMagnitudes(out: Float32Array): void;
}

export interface TrainedModel {
  readonly model: Model;
  /** In the order of the model. */
  readonly parameters: readonly TrainedParameter[];
  /** Those of each block, by their tensor in `model`. */
  readonly byBlock: readonly ReadonlyMap<Tensor, TrainedParameter>[];
  /** The model with its parameters as they are stored, float16 where a layer promises it. It holds until the next step: other tensors are shared. */
  stored(): Model;
}

/** @throws REPLAY_PARAMETER when the model lacks a planned tensor, or has one of another kind. */
export async function trainedModel(given: Model, { parameters }: Pick<Plan, 'parameters'>): Promise<TrainedModel> {
  const roles = rolesByName(given);
  const owned = new Map<Tensor, Owned>();
  for (const planned of parameters) {
    const found = roles.get(planned.name);
    if (found?.role.kind !== planned.kind) {
      throw new LowbitError(
        'REPLAY_PARAMETER',
        `quzo: the model has no ${planned.kind} '${planned.name}'; give the model that the run was given, with the same earlier steps`,
      );
    }
    owned.set(found.tensor, await own(found.tensor, found.role, planned));
  }
  const model = await materialize(given.map((t) => owned.get(t)?.leaf ?? t));
  const byLeaf = new Map([...owned.values()].map((one) => [one.leaf, one]));
  const byBlock = model.blocks.map((block) => {
    const found = new Map<Tensor, TrainedParameter>();
    block.map((t) => {
      const one = byLeaf.get(t);
      if (one) found.set(t, one.trained);
      return t;
    });
    return found;
  });
  return {
    model,
    byBlock,
    parameters: byBlock.flatMap((block) => [...block.values()]),
    stored: () =>
      model.map((t) => {
        const one = byLeaf.get(t);
        return one ? storedLeaf(one) : t;
      }),
  };
}

interface Owned {
  readonly leaf: Tensor;
  readonly role: TensorRole;
  readonly trained: TrainedParameter;
}

async function own(t: Tensor, role: TensorRole, planned: PlannedParameter): Promise<Owned> {
  const { name, kind, ...settings } = planned;
  const values = (await read(t)).slice() as Uint8Array | Float32Array;
  const maxCode = role.weight ? 2 ** role.weight.bits - 1 : 0;
  const parameter: Parameter = { name, kind, shape: t.shape, size: t.size, maxCode, settings };
  const fillMagnitudes = role.weight
    ? await weightMagnitudes(values, role.weight)
    : (out: Float32Array): void => {
        for (let i = 0; i < values.length; i++) out[i] = Math.abs(values[i]);
      };
  const layout = role.weight ? [t.shape[0], t.shape[1] / role.weight.groupSize, role.weight.groupSize] : t.shape;
  return { leaf: tensor(values, t.shape), role, trained: { parameter, values, layout, slots: createSlots(t.size), fillMagnitudes } };
}

/** |scale · (code − zero)|, for magnitudes that are compared within a tensor. */
async function weightMagnitudes(codes: Uint8Array | Float32Array, weight: AffineWeight): Promise<(out: Float32Array) => void> {
  const { groupSize, zeroPoint, offset, bits } = weight;
  const scale = await readFloats(weight.scale);
  const points = zeroPoint && (await read(zeroPoint));
  const offsets = offset && (await readFloats(offset));
  const middle = bits === 1 ? 0.5 : 2 ** (bits - 1);
  return (out) => {
    for (let group = 0, i = 0; group < scale.length; group++) {
      const s = scale[group];
      const atZero = offsets ? offsets[group] : -s * (points ? points[group] : middle);
      for (const end = i + groupSize; i < end; i++) out[i] = Math.abs(s * codes[i] + atZero);
    }
  };
}

const LARGEST_FLOAT16 = 65504;

function storedLeaf({ leaf, role, trained: { values } }: Owned): Tensor {
  if (role.dtype !== 'float16') return leaf;
  const stored = (values as Float32Array).map((x) => roundToFloat16(Math.max(-LARGEST_FLOAT16, Math.min(LARGEST_FLOAT16, x))));
  return tensor(stored, leaf.shape);
}
