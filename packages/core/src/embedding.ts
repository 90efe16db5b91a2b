// Where the residual stream begins: tokens as vectors, with learned positions added in families that have them.
import { LowbitError } from './errors.js';
import type { TensorMap } from './linear.js';
import { add, gather, reshape, slice } from './ops/index.js';
import type { Tensor } from './tensor.js';

/** Learned positions, which are added to what tokens embed to. */
export interface PositionEmbedding {
  /** [offset + positions, width]. */
  readonly weight: Tensor;
  /** The row of position 0. */
  readonly offset: number;
}

/** Token embedding: weight [vocabulary, width]; with learned positions where attention has none of its own. */
export class Embedding {
  readonly weight: Tensor;
  readonly positions: PositionEmbedding | undefined;

  constructor(weight: Tensor, positions?: PositionEmbedding) {
    this.weight = weight;
    this.positions = positions;
  }

  /** Elements of all its tensors. */
  get size(): number {
    return this.weight.size + (this.positions?.weight.size ?? 0);
  }

  /**
   * int32 [batch, tokens] → [batch, tokens, width]. Tokens stand at positions 0, 1, …; or, one of each row, at `position`, an int32 leaf
   * [] or, where rows differ, [batch].
   * @throws POSITION_LIMIT for more tokens than there are learned positions.
   */
  forward(tokens: Tensor, position?: Tensor): Tensor {
    const embedded = gather(this.weight, tokens, 0);
    if (!this.positions) return embedded;
    const { weight, offset } = this.positions;
    if (!position) return add(embedded, firstRows(weight, offset, tokens.shape[1]));
    const rows = gather(weight, add(position, offset), 0);
    return add(embedded, reshape(rows, [position.size, 1, weight.shape[1]]));
  }

  map(map: TensorMap): Embedding {
    const positions = this.positions && { ...this.positions, weight: map(this.positions.weight, 'positions') };
    return new Embedding(map(this.weight, 'weight'), positions);
  }
}

function firstRows(weight: Tensor, offset: number, count: number): Tensor {
  const known = weight.shape[0] - offset;
  if (count > known) {
    throw new LowbitError(
      'POSITION_LIMIT',
      `${count} tokens are more than the ${known} positions that the model has learned; use shorter sequences`,
    );
  }
  return slice(weight, 0, offset, offset + count);
}
