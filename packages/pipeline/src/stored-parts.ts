// Linears and norms as a store keeps them: their tensors by name, and as JSON what they are besides.
import { type Linear, type LinearKinds, type LinearState, LowbitError, Norm, restoreLinear, type Tensor } from '@lowbit/core';

export type NamedTensors = Readonly<Record<string, Tensor>>;

/** A LinearState without its tensors: those lie in the entry under `<linear path>.<tensor name>`, a part's under `<linear path>.<role>.<name>`. */
export interface LinearRecord extends Omit<LinearState, 'tensors' | 'parts'> {
  readonly tensors: readonly string[];
  readonly parts?: Readonly<Record<string, LinearRecord>>;
}

export interface NormRecord {
  readonly kind: Norm['kind'];
  readonly size: number;
  readonly epsilon: number;
  readonly tensors: readonly string[];
}

/** The Linear as a record; its tensors are added to `tensors`. */
export function encodeLinear(linear: Linear, path: string, tensors: Record<string, Tensor>): LinearRecord {
  return encodeState(linear.state(), path, tensors);
}

function encodeState({ tensors: held, parts, ...rest }: LinearState, path: string, tensors: Record<string, Tensor>): LinearRecord {
  for (const [name, t] of Object.entries(held)) tensors[`${path}.${name}`] = t;
  const encodedParts = parts && mapValues(parts, (part, role) => encodeState(part, `${path}.${role}`, tensors));
  return { ...rest, tensors: Object.keys(held), ...(encodedParts && { parts: encodedParts }) };
}

/** @throws LINEAR_KIND when `kinds` does not know it; STORE_ENTRY when a tensor is missing. */
export function decodeLinear(record: LinearRecord, path: string, tensors: NamedTensors, kinds: LinearKinds): Linear {
  return restoreLinear(decodeState(record, path, tensors), kinds);
}

function decodeState({ tensors: names, parts, ...rest }: LinearRecord, path: string, tensors: NamedTensors): LinearState {
  return {
    ...rest,
    tensors: tensorsAt(tensors, path, names),
    ...(parts && { parts: mapValues(parts, (part, role) => decodeState(part, `${path}.${role}`, tensors)) }),
  };
}

/** The norm as a record; its tensors are added to `tensors`. */
export function encodeNorm({ kind, size, epsilon, weight, bias }: Norm, path: string, tensors: Record<string, Tensor>): NormRecord {
  const held = { ...(weight && { weight }), ...(bias && { bias }) };
  for (const [name, t] of Object.entries(held)) tensors[`${path}.${name}`] = t;
  return { kind, size, epsilon, tensors: Object.keys(held) };
}

/** @throws STORE_ENTRY when a tensor is missing. */
export function decodeNorm({ kind, size, epsilon, tensors: names }: NormRecord, path: string, tensors: NamedTensors): Norm {
  const { weight, bias } = tensorsAt(tensors, path, names);
  return new Norm(kind, size, epsilon, weight, bias);
}

function tensorsAt(tensors: NamedTensors, path: string, names: readonly string[]): Record<string, Tensor> {
  return Object.fromEntries(names.map((name) => [name, requireTensor(tensors, `${path}.${name}`)]));
}

/** @throws STORE_ENTRY when it is missing. */
export function requireTensor(tensors: NamedTensors, name: string): Tensor {
  const t = tensors[name];
  if (!t) throw new LowbitError('STORE_ENTRY', `the store returned an entry without '${name}'; begin anew in another store`);
  return t;
}

/** What a Linear is besides its tensors, for fingerprints. */
export function describeLinear(linear: Linear): LinearRecord {
  return encodeLinear(linear, '', {});
}

export function mapValues<T, U>(record: Readonly<Record<string, T>>, f: (value: T, name: string) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, f(value, name)]));
}
