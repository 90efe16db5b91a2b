// Operators over codes packed several to a byte: what training straight on packed weights keeps of a weight (arXiv 2306.08162).
import { LowbitError } from '../errors.js';
import { formatShape, sameShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { apply } from './apply.js';
import type { CompositeDefinition } from './definition.js';
import { abs, add, cast, constant, floor, less, mul, sub, where } from './elementwise.js';
import { linear, matmul } from './matmul.js';
import { concat, reshape, slice } from './movement.js';
import { dequantize } from './quantized.js';
import { sum } from './reduce.js';

/** How the codes of a row are packed. */
export interface PlaneLayout {
  /** Bits of a code, 1 to 8. */
  readonly bits: number;
  /** Codes of a row. */
  readonly inFeatures: number;
}

/** Some bits of every code of a row, in bytes of their own. */
export interface BitPlanes {
  /** How many bits: 1, 2, 4 or 8. */
  readonly bits: number;
  /** The lowest of them, counted from the code's least significant bit. */
  readonly shift: number;
  /** First byte of the row, and how many: each holds 8 / bits codes. */
  readonly start: number;
  readonly bytes: number;
}

/**
 * The layout of packed rows. A code's bits are split into parts of 4, 2 and 1 bits, lowest first (3 = 2 + 1, 8 stays whole), and each part
 * of `bits` bits fills ⌈inFeatures · bits / 8⌉ bytes: byte j holds codes j, j + bytes, j + 2·bytes, …, the first in its lowest bits. So a
 * shift and a mask of all bytes give a run of neighbouring codes.
 */
export function bitPlanes({ bits, inFeatures }: PlaneLayout): BitPlanes[] {
  if (!(Number.isInteger(bits) && bits >= 1 && bits <= 8)) throw new LowbitError('BITS_RANGE', `codes have 1 to 8 bits, got ${bits}`);
  const planes: BitPlanes[] = [];
  let [shift, start] = [0, 0];
  for (const part of [8, 4, 2, 1].filter((power) => (bits & power) !== 0)) {
    const bytes = Math.ceil((inFeatures * part) / 8);
    planes.push({ bits: part, shift, start, bytes });
    shift += part;
    start += bytes;
  }
  return planes;
}

/** Bytes of a packed row. */
export function packedRowBytes(layout: PlaneLayout): number {
  return bitPlanes(layout).reduce((total, { bytes }) => total + bytes, 0);
}

/** Codes of packed rows (layout: `bitPlanes`): uint8 [out, packedRowBytes] → uint8 [out, inFeatures]. */
export function unpackPlanes(packed: Tensor, { bits, inFeatures }: PlaneLayout): Tensor {
  return apply('unpackPlanes', [packed], { bits, inFeatures });
}

/**
 * x · dequantize(unpackPlanes(packed), scale, offset)ᵀ: x [..., in] → [..., out], bit for bit what `quantizedMatmul` gives for the codes.
 * A large weight never exists whole: some rows are dequantized at a time, shortly before their product. The backward pass dequantizes
 * them anew (EMEF, arXiv 2306.08162).
 */
export function packedMatmul(x: Tensor, packed: Tensor, scale: Tensor, offset: Tensor, { bits }: { bits: number }): Tensor {
  return apply('packedMatmul', [x, packed, scale, offset], { bits });
}

/** Weights that are dequantized at a time, and the least rows of them: products of fewer rows are slow. */
const TILE_WEIGHTS = 2 ** 21;
const TILE_ROWS = 128;

/** Rows of a packed weight that `packedMatmul` dequantizes at a time, for estimates of memory. */
export function packedTileRows(inFeatures: number): number {
  return TILE_ROWS * Math.max(1, Math.floor(TILE_WEIGHTS / inFeatures / TILE_ROWS));
}

/** Rows start … end − 1 of a weight. */
interface Tile {
  readonly start: number;
  readonly end: number;
  /** The rows dequantized, [end − start, in], as a node that an engine cannot compute before `ready`. */
  after(ready: Tensor): Tensor;
}

function tilesOf([packed, scale, offset]: readonly Tensor[], layout: PlaneLayout): Tile[] {
  const out = packed.shape[0];
  const rows = packedTileRows(layout.inFeatures);
  return Array.from({ length: Math.ceil(out / rows) }, (_, i) => {
    const [start, end] = [i * rows, Math.min((i + 1) * rows, out)];
    const part = (t: Tensor): Tensor => slice(t, 0, start, end);
    return { start, end, after: (ready) => dequantize(unpackPlanes(heldUntil(part(packed), ready), layout), part(scale), part(offset)) };
  });
}

/**
 * `value` once `ready` is there. Engines merge nodes that are equal, and run a node when its inputs are there: what depends on `ready` is a
 * node of its own and does not lie about before its time. No magnitude is below −1, that of NaN neither.
 */
function heldUntil(value: Tensor, ready: Tensor): Tensor {
  const first = slice(reshape(ready, [ready.size]), 0, 0, 1);
  return where(less(abs(first), -1), constant(0, value.dtype), value);
}

const flattenRows = (x: Tensor): Tensor => reshape(x, [-1, x.shape[x.rank - 1]]);

/** dy · w, [rows, out] → [rows, in], summed tile by tile; each waits for the sum before it. */
function timesWeight(dy: Tensor, tiles: readonly Tile[]): Tensor {
  let total: Tensor | undefined;
  for (const { start, end, after } of tiles) {
    const product = matmul(slice(dy, 1, start, end), after(total ?? dy));
    total = total ? add(total, product) : product;
  }
  return total as Tensor;
}

/** Digit `index` of bytes read as numbers to the base 2^bits; exact in float32. */
function digit(bytes: Tensor, bits: number, index: number): Tensor {
  const above = (position: number): Tensor => (position === 0 ? bytes : floor(mul(bytes, 2 ** -(bits * position))));
  return (index + 1) * bits === 8 ? above(index) : sub(above(index), mul(above(index + 1), 2 ** bits));
}

function inferUnpacked(packed: Tensor, layout: PlaneLayout) {
  const bytes = packedRowBytes(layout);
  if (packed.dtype !== 'uint8' || packed.rank !== 2 || packed.shape[1] !== bytes) {
    throw new LowbitError(
      'SHAPE_PACKED',
      `${layout.inFeatures} codes of ${layout.bits} bits fill rows of ${bytes} bytes, got ${packed.dtype} ${formatShape(packed.shape)}`,
    );
  }
  return { shape: [packed.shape[0], layout.inFeatures], dtype: 'uint8' as const };
}

export const packedOps: Record<'unpackPlanes' | 'packedMatmul', CompositeDefinition> = {
  unpackPlanes: {
    kind: 'composite',
    infer: ([packed], attributes) => inferUnpacked(packed, attributes as unknown as PlaneLayout),
    decompose: ([packed], attributes) => {
      const { inFeatures, ...layout } = attributes as unknown as PlaneLayout;
      const parts = bitPlanes({ inFeatures, ...layout }).map(({ bits, shift, start, bytes }) => {
        const part = cast(slice(packed, 1, start, start + bytes), 'float32');
        const digits = Array.from({ length: 8 / bits }, (_, i) => digit(part, bits, i));
        const codes = slice(concat(digits, 1), 1, 0, inFeatures);
        return shift === 0 ? codes : mul(codes, 2 ** shift);
      });
      return cast(
        parts.reduce((a, b) => add(a, b)),
        'uint8',
      );
    },
  },
  packedMatmul: {
    kind: 'composite',
    infer: ([x, packed, scale, offset], { bits }) => {
      const inFeatures = x.shape[x.rank - 1];
      const [out] = inferUnpacked(packed, { bits: bits as number, inFeatures }).shape;
      if (scale.rank !== 2 || scale.shape[0] !== out || inFeatures % scale.shape[1] !== 0 || !sameShape(scale.shape, offset.shape)) {
        throw new LowbitError(
          'SHAPE_GROUPS',
          `packedMatmul: scale ${formatShape(scale.shape)} and offset ${formatShape(offset.shape)} do not group [${out}, ${inFeatures}]`,
        );
      }
      return { shape: [...x.shape.slice(0, -1), out], dtype: x.dtype };
    },
    decompose: ([x, ...weight], { bits }) => {
      const tiles = tilesOf(weight, { bits: bits as number, inFeatures: x.shape[x.rank - 1] });
      return concat(
        tiles.map(({ after }) => linear(x, after(x))),
        -1,
      );
    },
    gradient: ({ inputs: [x, ...weight], upstream, attributes }) => {
      const layout = { bits: attributes.bits as number, inFeatures: x.shape[x.rank - 1] };
      const [dy, [packed, scale]] = [flattenRows(upstream), weight];
      const dx = reshape(timesWeight(dy, tilesOf(weight, layout)), x.shape);
      // Of w = scale · code + offset, summed over a group. Nothing of this is computed unless it is asked for.
      const grouped = [...scale.shape, layout.inFeatures / scale.shape[1]];
      const dw = reshape(matmul(dy, flattenRows(x), { transposeA: true }), grouped);
      const codes = cast(reshape(unpackPlanes(packed, layout), grouped), 'float32');
      return [dx, undefined, sum(mul(dw, codes), [2]), sum(dw, [2])];
    },
  },
};
