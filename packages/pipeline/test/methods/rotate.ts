// A transform: folds the norms' weights into what reads them and rotates the residual stream, knowing the model by its group table alone.
import {
  type Backend,
  type Block,
  DenseLinear,
  defineMethod,
  Embedding,
  type Linear,
  type Model,
  matmul,
  mul,
  type Norm,
  type Rng,
  requireDense,
  type Tensor,
  tensor,
} from '@lowbit/core';
import { z } from 'zod';

/** [size, size + extra] with orthonormal rows: Gram-Schmidt on normal draws. With extra > 0 it widens the stream, as QUAD does. */
export function isometry(rng: Rng, size: number, extra: number): Tensor {
  const width = size + extra;
  const rows = Array.from({ length: size }, (_, i) => Float64Array.from(rng.at(i).normal(width)));
  const dot = (a: Float64Array, b: Float64Array): number => a.reduce((total, value, i) => total + value * b[i], 0);
  rows.forEach((row, i) => {
    // Twice is enough for orthogonality to rounding.
    for (let pass = 0; pass < 2; pass++) {
      for (const earlier of rows.slice(0, i)) {
        const overlap = dot(row, earlier);
        row.forEach((value, j) => {
          row[j] = value - overlap * earlier[j];
        });
      }
    }
    const length = Math.sqrt(dot(row, row));
    row.forEach((value, j) => {
      row[j] = value / length;
    });
  });
  return tensor(Float32Array.from(rows.flatMap((row) => [...row])), [size, width]);
}

/** W diag(γ) T: what reads the normed stream reads it rotated, with the norm's weight folded in. */
function reading(linear: Linear, path: string, norm: Norm, turn: Tensor): DenseLinear {
  const { weight, bias } = requireDense(linear, path);
  return new DenseLinear(matmul(norm.weight ? mul(weight, norm.weight) : weight, turn), bias);
}

/** Tᵀ W: what writes to the stream writes it rotated. */
function writing(linear: Linear, path: string, turn: Tensor): DenseLinear {
  const { weight, bias } = requireDense(linear, path);
  return new DenseLinear(matmul(turn, weight, { transposeA: true }), bias && matmul(bias, turn));
}

function rotateBlock(block: Block, turn: Tensor): Block {
  const linears: Record<string, Linear> = {};
  for (const { linears: names, reads, writesResidual } of block.groups) {
    for (const name of names) {
      const path = `${block.path}.${name}`;
      let changed: Linear = block.linears[name];
      if ('norm' in reads) changed = reading(changed, path, block.norms[reads.norm], turn);
      if (writesResidual) changed = writing(changed, path, turn);
      linears[name] = changed;
    }
  }
  const norms = Object.fromEntries(Object.entries(block.norms).map(([name, norm]) => [name, norm.with({ weight: undefined })]));
  return block.with({ linears, norms });
}

/** Blocks of the result are expressions over the given weights: nothing is computed or read before its turn comes. */
export function rotateModel(model: Model, turn: Tensor): Model {
  return model.with({
    config: { ...model.config, tiedEmbeddings: false },
    embedding: new Embedding(matmul(model.embedding.weight, turn)),
    blocks: model.blocks.map((block) => rotateBlock(block, turn)),
    norm: model.norm.with({ weight: undefined }),
    head: reading(model.head, 'lm_head', model.norm, turn),
  });
}

export const rotate = defineMethod({
  name: 'test-rotate',
  version: 1,
  options: z.strictObject({ extra: z.int().min(0).default(0) }),
  async transform(model, { rng, options }) {
    return rotateModel(model, isometry(rng, model.config.hiddenSize, options.extra));
  },
});

/** Largest |difference| of two models' logits, relative to the largest logit. */
export async function logitDifference(
  backend: Backend & { float64(x: Tensor): Promise<Float64Array> },
  a: Model,
  b: Model,
  tokens: Tensor,
): Promise<number> {
  const [x, y] = [await backend.float64(a.forward(tokens)), await backend.float64(b.forward(tokens))];
  const peak = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return x.reduce((most, value, i) => Math.max(most, Math.abs(value - y[i])), 0) / peak;
}
