// What of a model goes to disk, under which name and in which stored type.
import {
  DenseLinear,
  fitsBfloat16,
  fitsFloat16,
  type Linear,
  LowbitError,
  type Model,
  type Norm,
  readFloats,
  type Tensor,
  tensor,
  throwIfAborted,
} from '@lowbit/core';
import { sourceFloat } from './checkpoint-config.js';
import { linearTensors, type PlainTensor } from './linear-record.js';
import { located } from './located-error.js';
import { type StoredTensor, storedTensor } from './safetensors-write.js';
import { naturalDType, type StoredDType } from './stored-dtype.js';
import { transposed } from './transposed.js';

/** A tensor outside quantized Linears; stored transposed where its family does so. */
interface DenseTensor extends PlainTensor {
  readonly isTransposed?: boolean;
}

const fits = { F16: fitsFloat16, BF16: fitsBfloat16 } as const;

/**
 * Every tensor of the model in its stored type. `linears` holds every Linear by path.
 * @throws TENSOR_NOT_EVALUATED for a tensor that is an expression.
 */
export async function tensorsToStore(
  model: Model,
  linears: ReadonlyMap<string, Linear>,
  signal: AbortSignal | undefined,
): Promise<StoredTensor[]> {
  const quantized = [...linears].filter(([, linear]) => !(linear instanceof DenseLinear));
  const states = quantized.map(([path, linear]) => linearTensors(path, linear.state()));
  const plain: DenseTensor[] = [...denseTensors(withNormWeights(model), linears), ...states.flatMap((state) => state.plain)];
  const float = sourceFloat(model.config.source);

  const stored = states.flatMap((state) => state.ruled);
  for (const found of plain) {
    throwIfAborted(signal);
    const type = await located(found.name, () => storedType(found, float));
    stored.push(storedTensor(found.name, found.isTransposed ? transposed(found.tensor) : found.tensor, type));
  }
  return stored.map((t) => ({
    ...t,
    bytes: () => {
      throwIfAborted(signal);
      return t.bytes();
    },
  }));
}

/** Whether the head is the embedding's own weight, which is then stored once: `tie_word_embeddings` tells readers. */
export function tiesEmbeddings({ head, embedding }: Model): boolean {
  return head instanceof DenseLinear && head.weight === embedding.weight;
}

/** The model with ones where a norm's weight has been folded into its readers: other readers ask for a weight of every norm. */
function withNormWeights(model: Model): Model {
  // Those of the residual stream are as wide as it is, whatever they divide by; those of queries and keys as what they divide by.
  const widthOf = ({ size }: Norm): number => (size === model.norm.size ? model.width : size);
  const ones = (norm: Norm): Norm =>
    norm.weight ? norm : norm.with({ weight: tensor(new Float32Array(widthOf(norm)).fill(1)), bias: norm.bias });
  const blocks = model.blocks.map((block) =>
    block.with({ norms: Object.fromEntries(Object.entries(block.norms).map(([name, norm]) => [name, ones(norm)])) }),
  );
  return model.with({ blocks, norm: ones(model.norm) });
}

/** Tensors outside quantized Linears. Two names of one tensor are stored twice, as no reader could know, except for tied embeddings. */
function denseTensors(model: Model, linears: ReadonlyMap<string, Linear>): DenseTensor[] {
  const found: DenseTensor[] = [];
  const { layout, head } = model;
  const visit = (tensor: Tensor, name: string): Tensor => {
    const owner = linears.get(ownerOf(name, linears) ?? '');
    if (owner && !(owner instanceof DenseLinear)) return tensor;
    const isTransposed = layout.isTransposed && owner !== head && tensor === owner?.weight;
    found.push({ name, tensor, bits: owner?.bitsPerElement, isTransposed });
    return tensor;
  };
  const tied = tiesEmbeddings(model) ? (head as DenseLinear) : undefined;
  model.embedding.map((tensor, name) => {
    found.push({ name: layout.embedding[name], tensor, bits: tied?.bitsPerElement });
    return tensor;
  });
  for (const block of model.blocks) block.map((tensor, name) => visit(tensor, `${block.path}.${name}`));
  model.norm.map((tensor, name) => visit(tensor, `${layout.norm}.${name}`));
  head.map((tensor, name) => (tensor === tied?.weight ? tensor : visit(tensor, `${layout.head}.${name}`)));
  return found;
}

/** The Linear that a tensor belongs to: the longest path that its name begins with. */
function ownerOf(name: string, linears: ReadonlyMap<string, Linear>): string | undefined {
  for (let end = name.lastIndexOf('.'); end > 0; end = name.lastIndexOf('.', end - 1)) {
    if (linears.has(name.slice(0, end))) return name.slice(0, end);
  }
  return undefined;
}

/**
 * The smallest type that loses nothing, of those that fit the tensor's past: 16 bits when its Linear says so or the source was
 * published in 16, in the source's own type where that fits. A 16-bit layer whose values were changed beyond 16 bits becomes F32, and is counted as such when it is
 * read again.
 */
async function storedType({ tensor, bits }: PlainTensor, source: 'F16' | 'BF16' | undefined): Promise<StoredDType> {
  if (!tensor.isLeaf) throw new LowbitError('TENSOR_NOT_EVALUATED', 'is an expression; materialize the model before saving it');
  if (tensor.dtype !== 'float32' || bits === 32) return naturalDType[tensor.dtype];
  const either = source === 'F16' ? (['F16', 'BF16'] as const) : (['BF16', 'F16'] as const);
  const candidates = bits === 16 || source ? either : [];
  if (candidates.length === 0) return 'F32';
  const values = await readFloats(tensor);
  return candidates.find((dtype) => fits[dtype](values)) ?? 'F32';
}
