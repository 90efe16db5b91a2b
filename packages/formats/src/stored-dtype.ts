// Element types of tensors in files, and how each becomes a typed array. Files are little-endian, as is every machine that
// ONNX Runtime supports, so elements are viewed, not swapped.
import { type DType, decodeBfloat16, decodeFloat16, encodeBfloat16, encodeFloat16, LowbitError, type TypedArray } from '@lowbit/core';

/** Types that are read and written, by their safetensors names. */
export type StoredDType = 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'I8' | 'U8' | 'BOOL';

interface Codec {
  /** Element type after decoding. */
  readonly dtype: DType;
  /** `bytes` begin at the start of their buffer. @throws TENSOR_VALUE for elements that the host type cannot hold. */
  decode(bytes: Uint8Array<ArrayBuffer>): TypedArray;
  encode(values: TypedArray): Uint8Array;
}

const bytesOf = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

export const codecs: Readonly<Record<StoredDType, Codec>> = {
  F32: { dtype: 'float32', decode: ({ buffer }) => new Float32Array(buffer), encode: bytesOf },
  F16: {
    dtype: 'float32',
    decode: ({ buffer }) => decodeFloat16(new Uint16Array(buffer)),
    encode: (values) => bytesOf(encodeFloat16(values as Float32Array)),
  },
  BF16: {
    dtype: 'float32',
    decode: ({ buffer }) => decodeBfloat16(new Uint16Array(buffer)),
    encode: (values) => bytesOf(encodeBfloat16(values as Float32Array)),
  },
  I64: {
    dtype: 'int32',
    decode: ({ buffer }) => narrowInt64(new Int32Array(buffer)),
    encode: (values) => bytesOf(widenInt32(values as Int32Array)),
  },
  I32: { dtype: 'int32', decode: ({ buffer }) => new Int32Array(buffer), encode: bytesOf },
  I8: { dtype: 'int8', decode: ({ buffer }) => new Int8Array(buffer), encode: bytesOf },
  U8: { dtype: 'uint8', decode: (bytes) => bytes, encode: bytesOf },
  BOOL: { dtype: 'bool', decode: requireBooleans, encode: (values) => requireBooleans(values as Uint8Array) },
};

/** The type that holds a host tensor without loss when nothing smaller is asked for. */
export const naturalDType: Readonly<Record<DType, StoredDType>> = { float32: 'F32', int32: 'I32', int8: 'I8', uint8: 'U8', bool: 'BOOL' };

/**
 * Bytes of one element of every whole-byte type of the format. Types without a codec may stand in a file, so that its header
 * can be checked; reading such a tensor is refused.
 */
export const storedBytes: ReadonlyMap<string, number> = new Map(
  Object.entries({
    BOOL: 1,
    U8: 1,
    I8: 1,
    F8_E4M3: 1,
    F8_E5M2: 1,
    F8_E8M0: 1,
    U16: 2,
    I16: 2,
    F16: 2,
    BF16: 2,
    U32: 4,
    I32: 4,
    F32: 4,
    U64: 8,
    I64: 8,
    F64: 8,
    C64: 8,
  }),
);

export const isStoredDType = (name: string): name is StoredDType => Object.hasOwn(codecs, name);

// Pairs of words, low first; a value fits when its high word only repeats the sign.
function narrowInt64(words: Int32Array): Int32Array {
  const values = new Int32Array(words.length / 2);
  for (let i = 0; i < values.length; i++) {
    values[i] = words[2 * i];
    if (words[2 * i + 1] !== values[i] >> 31) {
      const value = new BigInt64Array(words.buffer, words.byteOffset + 8 * i, 1)[0];
      throw new LowbitError('TENSOR_VALUE', `element ${i} is ${value}, outside the int32 range that int64 tensors are read into`);
    }
  }
  return values;
}

function widenInt32(values: Int32Array): Int32Array {
  const words = new Int32Array(2 * values.length);
  for (let i = 0; i < values.length; i++) {
    words[2 * i] = values[i];
    words[2 * i + 1] = values[i] >> 31;
  }
  return words;
}

function requireBooleans<T extends Uint8Array>(bytes: T): T {
  const at = bytes.findIndex((byte) => byte > 1);
  if (at >= 0) throw new LowbitError('TENSOR_VALUE', `element ${at} of a boolean tensor is ${bytes[at]}, neither 0 nor 1`);
  return bytes;
}
