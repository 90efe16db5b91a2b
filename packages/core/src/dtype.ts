// Element types of tensors and the typed arrays that hold them on the host.

/** Element type. Computation is float32; int32 holds indices, int8 and uint8 hold codes, bool is one byte of 0 or 1. */
export type DType = 'float32' | 'int32' | 'int8' | 'uint8' | 'bool';

/** Host storage of a tensor's elements, row-major. */
export type TypedArray = Float32Array | Int32Array | Int8Array | Uint8Array;

interface ArrayTypes {
  float32: Float32Array;
  int32: Int32Array;
  int8: Int8Array;
  uint8: Uint8Array;
  bool: Uint8Array;
}

/** The typed array class of each element type. */
export const arrayTypes: { readonly [D in DType]: new (lengthOrValues: number | ArrayLike<number>) => ArrayTypes[D] } = {
  float32: Float32Array,
  int32: Int32Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};

/** Bytes of one element. */
export const bytesPerElement: Readonly<Record<DType, number>> = { float32: 4, int32: 4, int8: 1, uint8: 1, bool: 1 };

/** The element type that a typed array holds (a Uint8Array counts as uint8, never bool). */
export function dtypeOf(data: TypedArray): DType {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof Int8Array) return 'int8';
  return 'uint8';
}
