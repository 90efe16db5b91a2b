// Causal attention with grouped key-value heads, and rotary position embedding.
import { LowbitError } from '../errors.js';
import { formatShape } from '../shape.js';
import type { Attributes, Tensor } from '../tensor.js';
import { apply } from './apply.js';
import type { CompositeDefinition, PrimitiveDefinition } from './definition.js';
import { add, mul, neg, sub } from './elementwise.js';
import { matmul } from './matmul.js';
import { concat, pad, reshape, slice } from './movement.js';
import { softmax, sum } from './reduce.js';

/**
 * Queries are handled in chunks of this many positions, and a chunk looks only at the keys it may see: less work than the
 * full square, and scores that stay in the processor's cache.
 */
const QUERY_CHUNK = 256;

/** [rows, columns] with 0 where column ≤ row + offset and −∞ beyond: added to attention scores. */
export function causalMask(rows: number, columns: number, offset: number): Tensor {
  return apply('causalMask', [], { rows, columns, offset });
}

/**
 * Rotates pairs (i, i + D/2) of the last axis by position (arXiv 2104.09864, the half-split layout of Hugging Face).
 * x [batch, heads, tokens, D], cos and sin [tokens, D/2].
 */
export function rope(x: Tensor, cos: Tensor, sin: Tensor): Tensor {
  return apply('rope', [x, cos, sin]);
}

/**
 * softmax(q kᵀ · scale + causal mask) v. q [batch, heads, tokens, D]; k and v [batch, keyValueHeads, tokens, D], where heads is
 * a multiple of keyValueHeads and consecutive query heads share one. → [batch, heads, tokens, D].
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, { scale = 1 / Math.sqrt(q.shape[3]) }: { scale?: number } = {}): Tensor {
  return apply('attention', [q, k, v], { scale });
}

interface Chunk {
  readonly start: number;
  readonly end: number;
}

function chunksOf(tokens: number): Chunk[] {
  const chunks: Chunk[] = [];
  for (let start = 0; start < tokens; start += QUERY_CHUNK) chunks.push({ start, end: Math.min(tokens, start + QUERY_CHUNK) });
  return chunks;
}

interface ChunkResult {
  /** Queries of the chunk, folded over the query heads that share a key head: [batch, kvHeads, group·rows, D]. */
  readonly queries: Tensor;
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly probabilities: Tensor;
}

/** Rows [start, end) of x [B, H, T, D] as [B, kvHeads, H/kvHeads·rows, D]. */
function foldChunk(x: Tensor, kvHeads: number, { start, end }: Chunk): Tensor {
  const [batch, heads, , depth] = x.shape;
  return reshape(slice(x, 2, start, end), [batch, kvHeads, (heads / kvHeads) * (end - start), depth]);
}

function unfoldChunk(x: Tensor, heads: number, { start, end }: Chunk): Tensor {
  return reshape(x, [x.shape[0], heads, end - start, x.shape[3]]);
}

function chunkProbabilities(q: Tensor, k: Tensor, v: Tensor, chunk: Chunk, scale: number): ChunkResult {
  const [batch, heads] = q.shape;
  const kvHeads = k.shape[1];
  const group = heads / kvHeads;
  const rows = chunk.end - chunk.start;
  const queries = foldChunk(q, kvHeads, chunk);
  const keys = slice(k, 2, 0, chunk.end);
  const values = slice(v, 2, 0, chunk.end);
  const scores = matmul(mul(queries, scale), keys, { transposeB: true });
  const perHead = reshape(scores, [batch, kvHeads, group, rows, chunk.end]);
  const masked = add(perHead, causalMask(rows, chunk.end, chunk.start));
  return { queries, keys, values, probabilities: reshape(softmax(masked), scores.shape) };
}

export const maskOps: Record<'causalMask', PrimitiveDefinition> = {
  causalMask: {
    kind: 'primitive',
    infer: (_inputs, { rows, columns }) => ({ shape: [rows as number, columns as number], dtype: 'float32' }),
    gradient: () => [],
    reference: (_inputs, { rows, columns, offset }) => causalMaskValues(rows as number, columns as number, offset as number),
  },
};

/** Elements of a causal mask, row-major. */
export function causalMaskValues(rows: number, columns: number, offset: number): Float64Array {
  return Float64Array.from({ length: rows * columns }, (_, i) => (i % columns <= Math.floor(i / columns) + offset ? 0 : -Infinity));
}

function inferAttention([q, k, v]: readonly Tensor[]) {
  const shapes = `q ${formatShape(q.shape)}, k ${formatShape(k.shape)}, v ${formatShape(v.shape)}`;
  const fits =
    q.rank === 4 &&
    k.rank === 4 &&
    v.rank === 4 &&
    q.shape[0] === k.shape[0] &&
    q.shape[1] % k.shape[1] === 0 &&
    q.shape[2] === k.shape[2] &&
    q.shape[3] === k.shape[3] &&
    k.shape.every((size, axis) => size === v.shape[axis]);
  if (!fits) throw new LowbitError('SHAPE_ATTENTION', `attention: ${shapes} do not fit [batch, heads, tokens, headDim]`);
  return { shape: q.shape, dtype: q.dtype };
}

export const attentionOps: Record<'rope' | 'attention', CompositeDefinition> = {
  rope: {
    kind: 'composite',
    infer: ([x, cos, sin]) => {
      const depth = x.shape[x.rank - 1];
      const expected = [x.shape[x.rank - 2], depth / 2];
      for (const table of [cos, sin]) {
        if (table.rank !== 2 || table.shape[0] !== expected[0] || table.shape[1] !== expected[1]) {
          throw new LowbitError(
            'SHAPE_ROPE',
            `rope: table ${formatShape(table.shape)} does not fit ${formatShape(x.shape)}; expected ${formatShape(expected)}`,
          );
        }
      }
      return { shape: x.shape, dtype: x.dtype };
    },
    decompose: ([x, cos, sin]) => {
      const half = x.shape[x.rank - 1] / 2;
      const first = slice(x, -1, 0, half);
      const second = slice(x, -1, half, 2 * half);
      return concat([sub(mul(first, cos), mul(second, sin)), add(mul(second, cos), mul(first, sin))], -1);
    },
    // A rotation's transpose is the rotation by the opposite angle.
    gradient: ({ inputs: [, cos, sin], upstream }) => [rope(upstream, cos, neg(sin)), undefined, undefined],
  },
  attention: {
    kind: 'composite',
    infer: inferAttention,
    decompose: ([q, k, v], attributes) => {
      const outputs = chunksOf(q.shape[2]).map((chunk) => {
        const { probabilities, values } = chunkProbabilities(q, k, v, chunk, attributes.scale as number);
        return unfoldChunk(matmul(probabilities, values), q.shape[1], chunk);
      });
      return concat(outputs, 2);
    },
    gradient: attentionGradient,
  },
};

/**
 * dS = P ⊙ (dP − rowsum(dO ⊙ O)): the row sum of P ⊙ dP equals that of dO ⊙ O, which is D wide instead of T
 * (FlashAttention, arXiv 2205.14135, appendix B.2).
 */
function attentionGradient({
  inputs: [q, k, v],
  output,
  upstream,
  attributes,
}: {
  inputs: readonly Tensor[];
  output: Tensor;
  upstream: Tensor;
  attributes: Attributes;
}): Tensor[] {
  const scale = attributes.scale as number;
  const [, heads, tokens] = q.shape;
  const kvHeads = k.shape[1];
  const rowTotals = sum(mul(upstream, output), [-1], true);
  const dq: Tensor[] = [];
  let dk: Tensor | undefined;
  let dv: Tensor | undefined;
  for (const chunk of chunksOf(tokens)) {
    const { queries, keys, values, probabilities } = chunkProbabilities(q, k, v, chunk, scale);
    const dOut = foldChunk(upstream, kvHeads, chunk);
    const dProbabilities = matmul(dOut, values, { transposeB: true });
    const dScores = mul(probabilities, sub(dProbabilities, foldChunk(rowTotals, kvHeads, chunk)));
    dq.push(unfoldChunk(mul(matmul(dScores, keys), scale), heads, chunk));
    const after = tokens - chunk.end;
    dk = accumulate(dk, pad(mul(matmul(dScores, queries, { transposeA: true }), scale), 2, 0, after));
    dv = accumulate(dv, pad(matmul(probabilities, dOut, { transposeA: true }), 2, 0, after));
  }
  return [concat(dq, 2), dk as Tensor, dv as Tensor];
}

function accumulate(total: Tensor | undefined, term: Tensor): Tensor {
  return total ? add(total, term) : term;
}
