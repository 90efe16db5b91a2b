// The lazy tensor: a leaf with data, or a node of an expression graph. Building one computes nothing.
import { arrayTypes, type DType, dtypeOf, type TypedArray } from './dtype.js';
import { LowbitError } from './errors.js';
import type { OpName } from './ops/table.js';
import { formatShape, type Shape, sizeOf } from './shape.js';

/** Where a leaf's elements come from. `data` is set when they are in host memory already. */
export interface LeafSource {
  readonly kind: 'leaf';
  readonly data?: TypedArray;
  /** Fetches the elements (from a file, a device). May be called more than once; must return equal elements each time. */
  load(): Promise<TypedArray> | TypedArray;
}

/** Settings of an operation that are part of the compiled program. Values that change between evaluations belong in leaves. */
export type Attributes = Readonly<Record<string, number | string | boolean | readonly number[]>>;

/** An operation over other tensors. */
export interface Expression {
  readonly kind: 'expression';
  readonly op: OpName;
  readonly inputs: readonly Tensor[];
  readonly attributes: Attributes;
}

/** An immutable n-dimensional array, perhaps not computed yet. */
export class Tensor {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly source: LeafSource | Expression;
  /** The decomposition of a composite operation, set once by `expand`. */
  expansion: Tensor | undefined;

  constructor(shape: Shape, dtype: DType, source: LeafSource | Expression) {
    this.shape = shape;
    this.dtype = dtype;
    this.source = source;
  }

  get rank(): number {
    return this.shape.length;
  }

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  /** True for leaves, whose elements can be read without a backend. */
  get isLeaf(): boolean {
    return this.source.kind === 'leaf';
  }
}

/**
 * A leaf over host data. Numbers become float32; a typed array keeps its type unless `dtype` says otherwise and is not copied.
 * @throws SHAPE_DATA when the data does not fill the shape.
 */
export function tensor(data: TypedArray | readonly number[] | number, shape?: Shape, dtype?: DType): Tensor {
  const values = typeof data === 'number' ? [data] : data;
  const elements =
    ArrayBuffer.isView(values) && (dtype === undefined || arrayTypes[dtype] === values.constructor)
      ? (values as TypedArray)
      : new arrayTypes[dtype ?? 'float32'](values as ArrayLike<number>);
  const resolved = shape ?? (typeof data === 'number' ? [] : [elements.length]);
  if (sizeOf(resolved) !== elements.length) {
    throw new LowbitError('SHAPE_DATA', `tensor: ${elements.length} values do not fill shape ${formatShape(resolved)}`);
  }
  return new Tensor(resolved, dtype ?? dtypeOf(elements), { kind: 'leaf', data: elements, load: () => elements });
}

/** A leaf whose elements are fetched each time they are needed and not kept, for example from a file. */
export function lazyTensor(shape: Shape, dtype: DType, load: () => Promise<TypedArray> | TypedArray): Tensor {
  return new Tensor(shape, dtype, { kind: 'leaf', load });
}

/**
 * The elements of a leaf, row-major.
 * @throws TENSOR_NOT_EVALUATED for an expression: evaluate it on a backend first.
 */
export async function read(leaf: Tensor): Promise<TypedArray> {
  if (leaf.source.kind !== 'leaf') {
    throw new LowbitError('TENSOR_NOT_EVALUATED', `a ${leaf.source.op} node has no elements yet; pass it to backend.evaluate first`);
  }
  const data = leaf.source.data ?? (await leaf.source.load());
  if (data.length !== leaf.size) {
    throw new LowbitError('TENSOR_LOAD', `a leaf of shape ${formatShape(leaf.shape)} loaded ${data.length} elements`);
  }
  return data;
}

/** The elements of a float32 leaf. */
export async function readFloats(leaf: Tensor): Promise<Float32Array> {
  const data = await read(leaf);
  if (!(data instanceof Float32Array)) {
    throw new LowbitError('DTYPE', `expected a float32 leaf, got ${leaf.dtype}`);
  }
  return data;
}

/** The one element of a leaf of size 1. */
export async function readNumber(leaf: Tensor): Promise<number> {
  const data = await read(leaf);
  if (data.length !== 1) throw new LowbitError('SHAPE_SCALAR', `expected one element, got shape ${formatShape(leaf.shape)}`);
  return data[0];
}
