// Codes as a dense stream of bits: lossless for 1 to 8 bits and any length.
import { LowbitError } from '@lowbit/core';

/** Bytes that `length` codes fill. */
export function packedLength(length: number, bits: number): number {
  return Math.ceil((length * bits) / 8);
}

/**
 * Packs codes low-first: code i takes the bits from i·bits on, counted from the least significant bit of byte 0, across byte
 * boundaries; unused bits of the last byte are 0.
 * @throws BITS_RANGE; CODE_RANGE when a code has more bits.
 */
export function packCodes(codes: Uint8Array, bits: number): Uint8Array<ArrayBuffer> {
  checkBits(bits);
  const packed = new Uint8Array(packedLength(codes.length, bits));
  const maxCode = 2 ** bits - 1;
  let pending = 0; // bits not written yet, fewer than 8 before a code is added
  let count = 0;
  let next = 0;
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    if (code > maxCode) throw new LowbitError('CODE_RANGE', `packCodes: code ${code} at ${i} does not fit ${bits} bits`);
    pending |= code << count;
    count += bits;
    if (count >= 8) {
      packed[next++] = pending;
      pending >>>= 8;
      count -= 8;
    }
  }
  if (count > 0) packed[next] = pending;
  return packed;
}

/**
 * The first `length` codes of a packed stream: the inverse of `packCodes`.
 * @throws BITS_RANGE; PACKED_LENGTH when the bytes are not those of `length` codes.
 */
export function unpackCodes(bytes: Uint8Array, bits: number, length: number): Uint8Array<ArrayBuffer> {
  checkBits(bits);
  if (bytes.length !== packedLength(length, bits)) {
    throw new LowbitError(
      'PACKED_LENGTH',
      `unpackCodes: ${length} codes of ${bits} bits fill ${packedLength(length, bits)} bytes, got ${bytes.length}`,
    );
  }
  const codes = new Uint8Array(length);
  const maxCode = 2 ** bits - 1;
  let pending = 0;
  let count = 0;
  let next = 0;
  for (let i = 0; i < length; i++) {
    if (count < bits) {
      pending |= bytes[next++] << count;
      count += 8;
    }
    codes[i] = pending & maxCode;
    pending >>>= bits;
    count -= bits;
  }
  return codes;
}

function checkBits(bits: number): void {
  if (!(Number.isInteger(bits) && bits >= 1 && bits <= 8)) throw new LowbitError('BITS_RANGE', `codes have 1 to 8 bits, got ${bits}`);
}
