// Packing: lossless for every width and length, low-first across byte boundaries.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { packCodes, packedLength, unpackCodes } from '../src/index.js';

const width = fc.integer({ min: 1, max: 8 });

describe('packCodes and unpackCodes', () => {
  it('are inverse for every width and any length', () => {
    const cases = width.chain((bits) => fc.tuple(fc.constant(bits), fc.uint8Array({ max: 2 ** bits - 1, maxLength: 300 })));
    fc.assert(
      fc.property(cases, ([bits, codes]) => {
        const packed = packCodes(codes, bits);
        expect(packed.length).toBe(packedLength(codes.length, bits));
        expect(unpackCodes(packed, bits, codes.length)).toEqual(codes);
      }),
      { numRuns: 500 },
    );
  });

  it('fill the bytes from the least significant bit', () => {
    const cases = width.chain((bits) => fc.tuple(fc.constant(bits), fc.uint8Array({ max: 2 ** bits - 1, maxLength: 40 })));
    fc.assert(
      fc.property(cases, ([bits, codes]) => {
        // The stream as one integer: code i has the place value 2^(i·bits).
        const stream = codes.reduce((total, code, i) => total | (BigInt(code) << BigInt(i * bits)), 0n);
        packCodes(codes, bits).forEach((byte, i) => {
          expect(BigInt(byte)).toBe((stream >> BigInt(8 * i)) & 255n);
        });
      }),
    );
  });

  it('lay out three-bit codes across bytes', () => {
    // 101 110 011 → 0b011_110_101 = 0xf5 from bit 0, bit 8 is the top of 011.
    expect([...packCodes(Uint8Array.of(5, 6, 3), 3)]).toEqual([0xf5, 0x00]);
    expect([...packCodes(Uint8Array.of(5, 6, 7), 3)]).toEqual([0xf5, 0x01]);
    expect([...packCodes(Uint8Array.of(1, 2, 3, 0), 2)]).toEqual([0b00111001]);
  });

  it('refuse codes that do not fit, lengths that do not match and widths outside 1 to 8', () => {
    expect(() => packCodes(Uint8Array.of(1, 4), 2)).toThrow(/^CODE_RANGE: packCodes: code 4 at 1 does not fit 2 bits/);
    expect(() => unpackCodes(new Uint8Array(3), 3, 9)).toThrow(/^PACKED_LENGTH: unpackCodes: 9 codes of 3 bits fill 4 bytes, got 3/);
    for (const bits of [0, 9, 2.5, Number.NaN]) {
      expect(() => packCodes(new Uint8Array(1), bits)).toThrow(/^BITS_RANGE/);
      expect(() => unpackCodes(new Uint8Array(1), bits, 1)).toThrow(/^BITS_RANGE/);
    }
  });
});
