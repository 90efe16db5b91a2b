// float16 and bfloat16: every bit pattern, every tie, against a search over all values of the format in float64.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bfloat16Bits,
  bfloat16FromBits,
  decodeBfloat16,
  decodeFloat16,
  encodeBfloat16,
  encodeFloat16,
  fitsBfloat16,
  fitsFloat16,
  float16Bits,
  float16FromBits,
  roundToBfloat16,
  roundToFloat16,
} from '../src/half.js';

const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i);

interface Case {
  name: string;
  fractionBits: number;
  bias: number;
  decode: (bits: Uint16Array) => Float32Array;
  encode: (values: Float32Array) => Uint16Array;
  fits: (values: Float32Array) => boolean;
  round: (x: number) => number;
  fromBits: (bits: number) => number;
  toBits: (x: number) => number;
}

const cases: Case[] = [
  {
    name: 'float16',
    fractionBits: 10,
    bias: 15,
    decode: decodeFloat16,
    encode: encodeFloat16,
    fits: fitsFloat16,
    round: roundToFloat16,
    fromBits: float16FromBits,
    toBits: float16Bits,
  },
  {
    name: 'bfloat16',
    fractionBits: 7,
    bias: 127,
    decode: decodeBfloat16,
    encode: encodeBfloat16,
    fits: fitsBfloat16,
    round: roundToBfloat16,
    fromBits: bfloat16FromBits,
    toBits: bfloat16Bits,
  },
];

/** A pattern's value by the definition of the format (IEEE 754-2019 §3.4), in float64. */
function valueOf(bits: number, { fractionBits, bias }: Case): number {
  const fraction = bits & ((1 << fractionBits) - 1);
  const exponent = (bits & 0x7fff) >>> fractionBits;
  const top = 0x7fff >>> fractionBits;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === top) return fraction === 0 ? sign * Infinity : Number.NaN;
  return exponent === 0
    ? sign * fraction * 2 ** (1 - bias - fractionBits)
    : sign * (1 + fraction * 2 ** -fractionBits) * 2 ** (exponent - bias);
}

/** Nearest value with ties to even, by bisection over the non-negative patterns; exact, as neighbours and midpoints are float64. */
function nearest(x: number, format: Case): number {
  if (Number.isNaN(x)) return Number.NaN;
  const magnitude = Math.abs(x);
  const infinity = (0x7fff >>> format.fractionBits) << format.fractionBits;
  let low = 0;
  let high = infinity;
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if (valueOf(middle, format) <= magnitude) low = middle;
    else high = middle;
  }
  const below = valueOf(low, format);
  // The step to Infinity counts as long as the one before it.
  const above = high === infinity ? below + (below - valueOf(low - 1, format)) : valueOf(high, format);
  const up = magnitude - below > above - magnitude || (magnitude - below === above - magnitude && low % 2 === 1);
  const result = valueOf(up ? high : low, format);
  return x < 0 || Object.is(x, -0) ? -result : result;
}

describe.each(cases)('$name', (format) => {
  it('decodes every pattern to the value that the format defines', () => {
    const values = format.decode(patterns);
    for (let i = 0; i < 65536; i++)
      if (!Object.is(values[i], valueOf(i, format))) expect(values[i], `pattern ${i}`).toBe(valueOf(i, format));
  });

  it('encodes what it decoded to the same pattern, NaN payloads included', () => {
    expect(format.encode(format.decode(patterns))).toEqual(patterns);
    expect(format.fits(format.decode(patterns))).toBe(true);
  });

  it('rounds every midpoint to even and its neighbours to the nearer side', () => {
    const infinity = (0x7fff >>> format.fractionBits) << format.fractionBits;
    const values: number[] = [];
    for (let bits = 0; bits < infinity - 1; bits++) {
      const middle = (valueOf(bits, format) + valueOf(bits + 1, format)) / 2;
      values.push(middle, -middle);
    }
    const middles = Float32Array.from(values); // exact: a midpoint needs one bit more than the format has
    const bits = new Uint32Array(middles.buffer);
    const encoded = [0, 1, -1].map((step) => {
      const moved = new Float32Array(bits.map((word) => Math.max(word + step, 0)).buffer);
      return { moved, decoded: format.decode(format.encode(moved)) };
    });
    for (const { moved, decoded } of encoded) {
      for (let i = 0; i < moved.length; i += format.name === 'float16' ? 1 : 7) {
        const expected = nearest(moved[i], format);
        if (!Object.is(decoded[i], expected)) expect(decoded[i], `${moved[i]}`).toBe(expected);
        if (!Object.is(format.round(moved[i]), expected)) expect(format.round(moved[i]), `${moved[i]}`).toBe(expected);
      }
    }
  });

  it('rounds any float64 once', () => {
    fc.assert(
      fc.property(fc.oneof(fc.double(), fc.double({ min: -70000, max: 70000 }), fc.float()), (x) => {
        expect(format.round(x)).toBe(nearest(x, format));
        expect(format.fromBits(format.toBits(x))).toBe(nearest(x, format));
      }),
      { numRuns: 2000 },
    );
  });

  it('keeps signs of zero, infinities and NaN', () => {
    expect(format.round(-0)).toBe(-0);
    expect(format.round(-1e-60)).toBe(-0);
    expect(format.round(-1e300)).toBe(-Infinity);
    expect(format.round(Infinity)).toBe(Infinity);
    expect(format.round(Number.NaN)).toBeNaN();
    expect(Number.isNaN(format.fromBits(format.toBits(Number.NaN)))).toBe(true);
    // A NaN whose payload lies below the kept bits must not turn into Infinity.
    expect(format.decode(format.encode(new Float32Array(Uint32Array.of(0x7f800001).buffer)))[0]).toBeNaN();
  });

  it('sees values that do not fit', () => {
    expect(format.fits(Float32Array.of(1, 0.5, 1 + 2 ** -20))).toBe(false);
    expect(format.fits(Float32Array.of(1, 0.5, -0, 2 ** -14))).toBe(true);
  });

  it('reads views that start inside a buffer', () => {
    const values = Float32Array.of(9, 1.5, -2).subarray(1);
    expect([...format.decode(format.encode(values))]).toEqual([1.5, -2]);
  });
});

it('does not round twice: 1 + 2^-11 + 2^-40 lies above the tie that float32 would see', () => {
  expect(roundToFloat16(1 + 2 ** -11 + 2 ** -40)).toBe(1 + 2 ** -10);
  expect(roundToFloat16(1 + 2 ** -11)).toBe(1);
});

it('float16 overflows at 65520 and not before', () => {
  expect(roundToFloat16(65519.99)).toBe(65504);
  expect(roundToFloat16(65520)).toBe(Infinity);
});
