// A Llama in another basis, written out with small matrices: a wider residual stream, columns in full precision, online rotations.
import {
  type Backend,
  createRng,
  DenseLinear,
  Embedding,
  type KeyValueQuantization,
  type Linear,
  type Model,
  matmul,
  mul,
  readFloats,
  roundToFloat16,
  slice,
  type Tensor,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import {
  ActivationQuantizedLinear,
  QuantizedLinear,
  quantizeWeight,
  RotatedLinear,
  type Rotation,
  rotateFeatures,
  SplitLinear,
} from '@lowbit/quant';

/** [rows, columns] with orthonormal rows: Gram-Schmidt on normal draws. */
function isometry(rows: number, columns: number, seed: number): Tensor {
  const found: number[][] = [];
  for (let i = 0; i < rows; i++) {
    let row = [...createRng(seed).at(i).normal(columns)];
    for (let pass = 0; pass < 2; pass++) {
      for (const other of found) {
        const overlap = row.reduce((total, value, k) => total + value * other[k], 0);
        row = row.map((value, k) => value - overlap * other[k]);
      }
    }
    const length = Math.hypot(...row);
    found.push(row.map((value) => value / length));
  }
  return tensor(Float32Array.from(found.flat()), [rows, columns]);
}

export interface Widening {
  /** Channels added to the stream; as many columns stay in full precision. */
  readonly rank: number;
  /** Bits of activations; undefined leaves them alone, and the model computes what it did. */
  readonly activationBits?: number | undefined;
  /** Bits of the weights beside the columns; undefined leaves them dense. */
  readonly weightBits?: number | undefined;
  readonly keyValues?: KeyValueQuantization | undefined;
}

/** The model with its norms folded, T applied to its stream, heads and the MLP's inner width rotated online. Its head is untied. */
export async function widened(model: Model, backend: Backend, { rank, activationBits, weightBits, keyValues }: Widening): Promise<Model> {
  const turn = isometry(model.width, model.width + rank, 5);
  const evaluate = async (t: Tensor): Promise<Tensor> => (await backend.evaluate([t]))[0];
  const quantized = async (linear: DenseLinear): Promise<Linear> => {
    const weight = await evaluate(linear.weight);
    if (weightBits === undefined) return new DenseLinear(weight, linear.bias);
    const grid = { bits: weightBits, symmetric: true, groupSize: -1, clip: 'minmax', scaleDtype: 'float16' } as const;
    return new QuantizedLinear(quantizeWeight(await readFloats(weight), weight.shape, grid), linear.bias);
  };
  const rounded = (linear: Linear): Linear => (activationBits ? new ActivationQuantizedLinear(linear, { bits: activationBits }) : linear);
  const reading = async (linear: Linear, gamma: Tensor | undefined): Promise<Linear> => {
    const { weight, bias } = linear as DenseLinear;
    const turned = matmul(gamma ? mul(weight, gamma) : weight, turn);
    if (rank === 0) return rounded(await quantized(new DenseLinear(turned, bias)));
    const columns = await readFloats(await evaluate(slice(turned, 1, 0, rank)));
    const rest = await quantized(new DenseLinear(slice(turned, 1, rank, model.width + rank), bias));
    const outlier = tensor(columns.map(roundToFloat16), [linear.outFeatures, rank]);
    return new SplitLinear({ outlier, rest: rounded(rest), outlierDtype: 'float16' });
  };
  const writing = async (linear: Linear, rotation: Rotation): Promise<Linear> => {
    const { weight, bias } = linear as DenseLinear;
    const turned = new DenseLinear(
      rotateFeatures(matmul(turn, weight, { transposeA: true }), rotation),
      bias && (await evaluate(matmul(bias, turn))),
    );
    return new RotatedLinear({ base: rounded(await quantized(turned)), rotation });
  };
  const blocks = await Promise.all(
    model.blocks.map(async (block) => {
      const linears: Record<string, Linear> = {};
      for (const { linears: names, reads, writesResidual } of block.groups) {
        for (const name of names) {
          const linear = block.linears[name];
          const { headCount } = block.attention;
          const rotation: Rotation =
            name === block.attention.output
              ? { kind: 'matrix', matrix: isometry(headCount, headCount, 6) }
              : { kind: 'hadamard', size: linear.inFeatures, blocks: linear.inFeatures / (linear.inFeatures & -linear.inFeatures) };
          linears[name] = 'norm' in reads ? await reading(linear, block.norms[reads.norm].weight) : await writing(linear, rotation);
          if (!('norm' in reads) !== writesResidual) throw new Error(`${name}: a group of another kind`);
        }
      }
      const norms = Object.fromEntries(Object.entries(block.norms).map(([name, norm]) => [name, norm.with({ weight: undefined })]));
      return block.with({ linears, norms, keyValues });
    }),
  );
  const head = model.head as DenseLinear;
  const made = model.with({
    config: { ...model.config, tiedEmbeddings: false },
    embedding: new Embedding(await evaluate(matmul(model.embedding.weight, turn))),
    blocks,
    norm: model.norm.with({ weight: undefined }),
    head: new DenseLinear(await evaluate(matmul(mul(head.weight, model.norm.weight as Tensor), turn))),
  });
  for (const [name, t] of tensorsOf(made)) if (!t.isLeaf) throw new Error(`${name} is an expression`);
  return made;
}
