// float16 and bfloat16 on the host, bit-exact and rounded half to even: checkpoints store them, scales are rounded to them.

/** A 16-bit floating-point format as rounding sees it. */
interface HalfFormat {
  /** Bits of the fraction that are stored. */
  readonly fractionBits: number;
  /** Exponent of the smallest normal number. */
  readonly minExponent: number;
  readonly largest: number;
}

const float16: HalfFormat = { fractionBits: 10, minExponent: -14, largest: 65504 };
const bfloat16: HalfFormat = { fractionBits: 7, minExponent: -126, largest: (2 - 2 ** -7) * 2 ** 127 };

// Typed-array views use the machine's byte order, so the index of a float64's upper word depends on it.
const UPPER_WORD = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 1 : 0;
// Scratch, so that rounding a scale allocates nothing; it holds nothing between calls.
const float64 = new Float64Array(1);
const words = new Uint32Array(float64.buffer);

/**
 * Rounds a float64 once: going through float32 first would round twice. Adding and subtracting 1.5·2^52 quanta leaves a
 * multiple of the quantum, rounded half to even by the float64 addition itself.
 */
function roundTo(x: number, { fractionBits, minExponent, largest }: HalfFormat): number {
  if (x === 0 || !Number.isFinite(x)) return x;
  float64[0] = x;
  const exponent = Math.max(((words[UPPER_WORD] >>> 20) & 0x7ff) - 1023, minExponent);
  // Past the format's exponents the result overflows whatever the quantum is; the cap keeps the constant below in range.
  if (exponent > 127) return x < 0 ? -Infinity : Infinity;
  words[UPPER_WORD] = ((exponent - fractionBits + 52 + 1023) << 20) | 0x80000;
  words[1 - UPPER_WORD] = 0;
  const shift = float64[0]; // 1.5 · 2^(52 + exponent − fractionBits)
  const rounded = x + shift - shift;
  if (Math.abs(rounded) > largest) return x < 0 ? -Infinity : Infinity;
  return rounded === 0 && x < 0 ? -0 : rounded;
}

/** The nearest float16 value, ties to even; beyond 65504 + half a step it is ±Infinity. */
export const roundToFloat16 = (x: number): number => roundTo(x, float16);

/** The nearest bfloat16 value, ties to even. */
export const roundToBfloat16 = (x: number): number => roundTo(x, bfloat16);

// float16 bits → float32 bits. Every pattern is kept, signalling NaNs included.
function widenFloat16(bits: number): number {
  const sign = (bits & 0x8000) << 16;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (fraction << 13);
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  const shift = Math.clz32(fraction) - 21; // brings the leading one of a subnormal to bit 10, where it is implied
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
}

// float32 bits → float16 bits.
function narrowToFloat16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7c00 | ((magnitude >>> 13) & 0x3ff || 0x200); // NaN: keep its payload, never Infinity
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520 lies halfway to the first value that does not exist
  if (magnitude >= 0x38800000) return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  if (magnitude <= 0x33000000) return sign; // 2^-25, half of the smallest subnormal, goes to the even neighbour: zero
  const significand = (magnitude & 0x7fffff) | 0x800000;
  const shift = 126 - (magnitude >>> 23); // 14 … 24
  return sign | ((significand + (1 << (shift - 1)) - 1 + ((significand >>> shift) & 1)) >>> shift);
}

// float32 bits → bfloat16 bits.
function narrowToBfloat16(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | ((bits >>> 16) & 0x7f ? 0 : 0x40);
  return ((bits >>> 16) + (((bits & 0xffff) + 0x7fff + ((bits >>> 16) & 1)) >>> 16)) & 0xffff;
}

const bitsOf = (values: Float32Array): Uint32Array => new Uint32Array(values.buffer, values.byteOffset, values.length);

/** float16 bit patterns → float32, exactly. */
export function decodeFloat16(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const values = new Float32Array(bits.length);
  const to = bitsOf(values);
  for (let i = 0; i < bits.length; i++) to[i] = widenFloat16(bits[i]);
  return values;
}

/** bfloat16 bit patterns → float32, exactly. */
export function decodeBfloat16(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const values = new Float32Array(bits.length);
  const to = bitsOf(values);
  for (let i = 0; i < bits.length; i++) to[i] = bits[i] << 16;
  return values;
}

/** float32 → float16 bit patterns, ties to even. Inverse of `decodeFloat16` on every pattern. */
export function encodeFloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const from = bitsOf(values);
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) bits[i] = narrowToFloat16(from[i]);
  return bits;
}

/** float32 → bfloat16 bit patterns, ties to even. Inverse of `decodeBfloat16` on every pattern. */
export function encodeBfloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const from = bitsOf(values);
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) bits[i] = narrowToBfloat16(from[i]);
  return bits;
}

/** True when float16 holds every value without loss, NaN payloads and signed zeros included. */
export function fitsFloat16(values: Float32Array): boolean {
  return bitsOf(values).every((word) => widenFloat16(narrowToFloat16(word)) >>> 0 === word);
}

/** True when bfloat16 holds every value without loss. */
export function fitsBfloat16(values: Float32Array): boolean {
  return bitsOf(values).every((word) => (word & 0xffff) === 0);
}

/** One float16 bit pattern as a number. */
export const float16FromBits = (bits: number): number => decodeFloat16(Uint16Array.of(bits))[0];

/** One bfloat16 bit pattern as a number. */
export const bfloat16FromBits = (bits: number): number => decodeBfloat16(Uint16Array.of(bits))[0];

/** The float16 bit pattern nearest to a number, rounded once from float64. */
export const float16Bits = (x: number): number => encodeFloat16(Float32Array.of(roundToFloat16(x)))[0];

/** The bfloat16 bit pattern nearest to a number, rounded once from float64. */
export const bfloat16Bits = (x: number): number => encodeBfloat16(Float32Array.of(roundToBfloat16(x)))[0];
