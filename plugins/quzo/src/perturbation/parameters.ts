// What is trained of a model: tensors by name, found in its Linears through whatever wraps them.
import { DenseLinear, type Linear, LowbitError, type Model, type Tensor, tensorsOf } from '@lowbit/core';
import { type AffineWeight, LowRankLinear, QuantizedLinear, type ScaleDtype } from '@lowbit/quant';
import type { ParameterKind, ParameterSettings } from '../hooks.js';
import type { QuzoOptions } from '../options.js';
import type { NewAdapter } from './adapters.js';

/** A tensor of a Linear that could be trained. */
export interface TensorRole {
  readonly kind: ParameterKind;
  /** How it is stored; codes as they are. */
  readonly dtype: ScaleDtype | 'codes' | 'dense';
  /** Of codes: the weight that they are of. */
  readonly weight?: AffineWeight;
}

/** What of a tensor is known without the model: enough to find it again. */
export interface PlannedParameter extends ParameterSettings {
  readonly name: string;
  readonly kind: ParameterKind;
}

export interface Plan {
  readonly adapters: readonly NewAdapter[];
  readonly parameters: readonly PlannedParameter[];
}

/** The tensors of a Linear that could be trained, those of what it wraps too. */
function rolesIn(linear: Linear): Map<Tensor, TensorRole> {
  if (linear instanceof QuantizedLinear) {
    const { weight } = linear;
    return new Map<Tensor, TensorRole>([
      [weight.codes, { kind: 'codes', dtype: 'codes', weight }],
      [weight.scale, { kind: 'scales', dtype: weight.scaleDtype }],
    ]);
  }
  if (linear instanceof LowRankLinear) {
    const role: TensorRole = { kind: 'adapters', dtype: linear.factorDtype };
    return new Map([[linear.down, role], [linear.up, role], ...rolesIn(linear.base)]);
  }
  if (linear instanceof DenseLinear) return new Map([[linear.weight, { kind: 'weights', dtype: 'dense' }]]);
  return linear.quantizable ? rolesIn(linear.quantizable.linear) : new Map();
}

/** Roles of all tensors in the blocks of a model, by the tensors' names. */
export function rolesByName(model: Model): Map<string, { readonly tensor: Tensor; readonly role: TensorRole }> {
  const found = new Map<string, { tensor: Tensor; role: TensorRole }>();
  for (const block of model.blocks) {
    const roles = new Map(Object.values(block.linears).flatMap((linear) => [...rolesIn(linear)]));
    for (const [name, t] of tensorsOf(block)) {
      const role = roles.get(t);
      if (role) found.set(`${block.path}.${name}`, { tensor: t, role });
    }
  }
  return found;
}

/**
 * What a step trains of a model, and the adapters that it has to attach first.
 * @throws QUZO_NOTHING when no targeted Linear has what `parameters` names.
 */
export function planOf(model: Model, optionsFor: (path: string) => QuzoOptions | undefined): Plan {
  const adapters: NewAdapter[] = [];
  const parameters: PlannedParameter[] = [];
  for (const { path: blockPath, linears } of model.blocks) {
    for (const [linearName, linear] of Object.entries(linears)) {
      const path = `${blockPath}.${linearName}`;
      const options = optionsFor(path);
      if (!options) continue;
      const { parameters: kind, epsilon, learningRate, perturbBits, sparsity } = options;
      const settings = { kind, epsilon, learningRate, perturbBits, sparsity };
      const roles = rolesIn(linear);
      const names = [...tensorsOf(linear)].flatMap(([name, t]) => (roles.get(t)?.kind === kind ? [`${path}.${name}`] : []));
      if (kind === 'adapters' && names.length === 0) {
        adapters.push({ path, rank: options.rank, alpha: options.alpha });
        names.push(`${path}.down`, `${path}.up`);
      }
      parameters.push(...names.map((name) => ({ name, ...settings })));
    }
  }
  if (parameters.length > 0) return { adapters, parameters };
  throw new LowbitError(
    'QUZO_NOTHING',
    "quzo: no targeted Linear has what 'parameters' names: codes and scales come from a weight quantizer, dense weights are there before one; change parameters, targets, or the order of the recipe",
  );
}
