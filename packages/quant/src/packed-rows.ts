// Rows of codes packed into bytes as the operator `unpackPlanes` reads them, on the host.
import { bitPlanes, LowbitError, type PlaneLayout, packedRowBytes } from '@lowbit/core';

/**
 * Packs codes [rows, inFeatures] row by row, layout as in core's `bitPlanes`: exactly `bits` bits a code, and whole bytes for each row's planes.
 * @throws BITS_RANGE; PACKED_LENGTH when the codes are not whole rows; CODE_RANGE when a code has more bits.
 */
export function packRows(codes: Uint8Array, layout: PlaneLayout): Uint8Array<ArrayBuffer> {
  const { bits, inFeatures } = layout;
  const [planes, rowBytes] = [bitPlanes(layout), packedRowBytes(layout)];
  const rows = wholeRows('packRows', codes.length, inFeatures);
  const tooLarge = codes.find((code) => code >= 2 ** bits);
  if (tooLarge !== undefined) throw new LowbitError('CODE_RANGE', `packRows: code ${tooLarge} does not fit ${bits} bits`);
  const packed = new Uint8Array(rows * rowBytes);
  for (let row = 0; row < rows; row++) {
    for (const { bits: own, shift, start, bytes } of planes) {
      const mask = 2 ** own - 1;
      const at = row * rowBytes + start;
      for (let i = 0, digit = 0; i < inFeatures; digit += own) {
        for (let j = 0; j < bytes && i < inFeatures; j++, i++) {
          packed[at + j] |= ((codes[row * inFeatures + i] >> shift) & mask) << digit;
        }
      }
    }
  }
  return packed;
}

/** The inverse of `packRows`. @throws BITS_RANGE; PACKED_LENGTH when the bytes are not whole rows. */
export function unpackRows(packed: Uint8Array, layout: PlaneLayout): Uint8Array<ArrayBuffer> {
  const { inFeatures } = layout;
  const [planes, rowBytes] = [bitPlanes(layout), packedRowBytes(layout)];
  const rows = wholeRows('unpackRows', packed.length, rowBytes);
  const codes = new Uint8Array(rows * inFeatures);
  for (let row = 0; row < rows; row++) {
    for (const { bits: own, shift, start, bytes } of planes) {
      const mask = 2 ** own - 1;
      const at = row * rowBytes + start;
      for (let i = 0, digit = 0; i < inFeatures; digit += own) {
        for (let j = 0; j < bytes && i < inFeatures; j++, i++) {
          codes[row * inFeatures + i] |= ((packed[at + j] >> digit) & mask) << shift;
        }
      }
    }
  }
  return codes;
}

function wholeRows(where: string, length: number, rowLength: number): number {
  const rows = length / rowLength;
  if (Number.isInteger(rows)) return rows;
  throw new LowbitError('PACKED_LENGTH', `${where}: ${length} bytes are no whole rows of ${rowLength}`);
}
