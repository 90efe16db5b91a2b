// Hadamard matrices by construction: Sylvester's doubling, Paley's two families over GF(p) and GF(p²), and Goethals-Seidel arrays of
// circulants for the orders that models need and Paley does not reach.
import { LowbitError } from '@lowbit/core';

export type HadamardConstruction = 'sylvester' | 'paley-1' | 'paley-2' | 'goethals-seidel';

/** H [order, order] of ±1 with H Hᵀ = order·I. */
export interface HadamardMatrix {
  readonly order: number;
  readonly entries: Int8Array;
  readonly construction: HadamardConstruction;
}

/**
 * A Hadamard matrix of the order.
 * @throws HADAMARD_SIZE where none is known to this package (none exists unless the order is 1, 2 or a multiple of 4).
 */
export function hadamardMatrix(order: number): HadamardMatrix {
  const found = constructHadamard(order);
  if (!found)
    throw new LowbitError(
      'HADAMARD_SIZE',
      `hadamardMatrix: no Hadamard matrix of order ${order} is known here; use one of 2^k·m with m a Paley order`,
    );
  return found;
}

/** As `hadamardMatrix`, undefined where none is known. */
function constructHadamard(order: number): HadamardMatrix | undefined {
  if (!Number.isInteger(order) || order < 1) return undefined;
  if ((order & (order - 1)) === 0) return { order, entries: fill(order, (i, j) => (parity(i & j) ? -1 : 1)), construction: 'sylvester' };
  return directHadamard(order) ?? doubled(order);
}

/** An order reached without doubling a smaller one. */
export function directHadamard(order: number): HadamardMatrix | undefined {
  if (order % 4 !== 0) return undefined;
  const first = quadraticCharacter(order - 1, 3);
  if (first) return { order, entries: paleyFirst(order - 1, first), construction: 'paley-1' };
  const second = quadraticCharacter(order / 2 - 1, 1);
  if (second) return { order, entries: paleySecond(order / 2 - 1, second), construction: 'paley-2' };
  const circulants = CIRCULANTS[order];
  return circulants && { order, entries: goethalsSeidel(circulants), construction: 'goethals-seidel' };
}

/** [[H, H], [H, −H]] (Sylvester, 1867). */
function doubled(order: number): HadamardMatrix | undefined {
  if (order % 8 !== 0) return undefined;
  const half = constructHadamard(order / 2);
  if (!half) return undefined;
  const n = half.order;
  const entries = fill(order, (i, j) => (i >= n && j >= n ? -1 : 1) * half.entries[(i % n) * n + (j % n)]);
  return { order, entries, construction: half.construction };
}

function fill(order: number, entry: (i: number, j: number) => number): Int8Array {
  const entries = new Int8Array(order * order);
  for (let i = 0; i < order; i++) {
    for (let j = 0; j < order; j++) entries[i * order + j] = entry(i, j);
  }
  return entries;
}

function parity(bits: number): boolean {
  let odd = false;
  for (let rest = bits; rest !== 0; rest &= rest - 1) odd = !odd;
  return odd;
}

/** χ(x_i − x_j) over the elements of a finite field: 0, +1 for squares, −1 for the others. */
type Character = (i: number, j: number) => number;

/**
 * The quadratic character of GF(q) on differences, for q = p or p² with q ≡ `residue` mod 4; undefined for other q. GF(p²) is
 * a + b√g for a non-square g, element a + b√g having index a + p·b.
 */
function quadraticCharacter(q: number, residue: 1 | 3): Character | undefined {
  if (q < 3 || q % 4 !== residue) return undefined;
  const root = Math.round(Math.sqrt(q));
  const p = root * root === q ? root : q;
  if (!isPrime(p)) return undefined;
  const squares = new Int8Array(q).fill(-1);
  squares[0] = 0;
  if (p === q) {
    for (let x = 1; x < q; x++) squares[(x * x) % q] = 1;
    return (i, j) => squares[(i - j + q) % q];
  }
  const residues = new Set(Array.from({ length: p }, (_, x) => (x * x) % p));
  const g = Array.from({ length: p }, (_, x) => x).find((x) => !residues.has(x)) as number;
  for (let x = 1; x < q; x++) {
    const a = x % p;
    const b = (x - a) / p;
    squares[((a * a + g * b * b) % p) + p * ((2 * a * b) % p)] = 1;
  }
  return (i, j) => {
    const a = ((i % p) - (j % p) + p) % p;
    const b = (Math.floor(i / p) - Math.floor(j / p) + p) % p;
    return squares[a + p * b];
  };
}

function isPrime(n: number): boolean {
  if (n < 2) return false;
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false;
  return true;
}

/** I + [[0, 1ᵀ], [−1, Q]] of order q + 1, q ≡ 3 mod 4 (Paley, 1933). */
function paleyFirst(q: number, character: Character): Int8Array {
  return fill(q + 1, (i, j) => {
    if (i === j || i === 0) return 1;
    return j === 0 ? -1 : character(i - 1, j - 1);
  });
}

/** C ⊗ [[1, 1], [1, −1]] + I ⊗ [[1, −1], [−1, −1]] of order 2(q + 1) with C = [[0, 1ᵀ], [1, Q]], q ≡ 1 mod 4; symmetric. */
function paleySecond(q: number, character: Character): Int8Array {
  return fill(2 * (q + 1), (i, j) => {
    const row = i >> 1;
    const column = j >> 1;
    const isLast = (i & 1) === 1 && (j & 1) === 1;
    if (row === column) return (i & 1) === 0 && (j & 1) === 0 ? 1 : -1;
    const conference = row === 0 || column === 0 ? 1 : character(row - 1, column - 1);
    return isLast ? -conference : conference;
  });
}

/**
 * Four ±1 sequences of length t whose periodic autocorrelations add to zero. Each is constant on the orbits of a group of multipliers
 * on Z_t, listed by smallest element; bit i of its mask says that orbit i is +1. That symmetry makes the search for them small:
 * 43 has 2^7 candidates a sequence (Williamson, 1944), 39 has 2^15.
 */
interface Circulants {
  readonly length: number;
  readonly multipliers: readonly number[];
  readonly masks: readonly [number, number, number, number];
}

const CIRCULANTS: Readonly<Record<number, Circulants>> = {
  156: { length: 39, multipliers: [1, 16, 22], masks: [63, 111, 3377, 21391] },
  172: { length: 43, multipliers: [1, 6, 7, 36, 37, 42], masks: [31, 135, 171, 205] },
};

/**
 * [A, BR, CR, DR; −BR, A, DᵀR, −CᵀR; −CR, −DᵀR, A, BᵀR; −DR, CᵀR, −BᵀR, A] with circulants A to D and the reversal R
 * (Goethals & Seidel, 1967).
 */
function goethalsSeidel({ length: t, multipliers, masks }: Circulants): Int8Array {
  const sequences = masks.map((mask) => expandOrbits(t, multipliers, mask));
  const layout = [
    [0, 1, 2, 3],
    [1, 0, 3, 2],
    [2, 3, 0, 1],
    [3, 2, 1, 0],
  ];
  const signs = [
    [1, 1, 1, 1],
    [-1, 1, 1, -1],
    [-1, -1, 1, 1],
    [-1, 1, -1, 1],
  ];
  return fill(4 * t, (i, j) => {
    const [row, column] = [Math.floor(i / t), Math.floor(j / t)];
    const [a, b] = [i % t, j % t];
    const sequence = sequences[layout[row][column]];
    // A[a, b] = s[b − a]; (BR)[a, b] = s[t−1−b − a]; (BᵀR)[a, b] = s[a − (t−1−b)].
    if (row === column) return sequence[(b - a + t) % t];
    const shift = row === 0 || column === 0 ? t - 1 - b - a : a - (t - 1 - b);
    return signs[row][column] * sequence[((shift % t) + t) % t];
  });
}

function expandOrbits(t: number, multipliers: readonly number[], mask: number): Int8Array {
  const sequence = new Int8Array(t);
  let orbit = 0;
  for (let x = 0; x < t; x++) {
    if (sequence[x] !== 0) continue;
    const sign = (mask >> orbit++) & 1 ? 1 : -1;
    for (const multiplier of multipliers) sequence[(x * multiplier) % t] = sign;
  }
  return sequence;
}
