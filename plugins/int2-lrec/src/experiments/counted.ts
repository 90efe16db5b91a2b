// Quantized models with adapters, made up and packed: what the memory model must count to the byte.
import { type ExperimentRow, type LinearState, LowbitError, type Rng, read, type Tensor, tensor } from '@lowbit/core';
import { AffineWeight, LowRankLinear, packCodes, QuantizedLinear } from '@lowbit/quant';
import { adapterParameters, type CodeFormat, type LayerShape, llamaShape, quantizedBytes } from '../memory-model.js';

/** Of each number of bits, one model with groups and one without. */
const formats: readonly CodeFormat[] = [2, 3, 4, 8].flatMap((bits) =>
  [32, -1].map((groupSize) => ({ bits, groupSize, groupIndices: false })),
);

/** One row for each format, of a Llama of drawn sizes whose Linears all have an adapter of one drawn rank. */
export async function countedRows(rng: Rng): Promise<ExperimentRow[]> {
  const rows: ExperimentRow[] = [];
  for (const [index, format] of formats.entries()) {
    const draws = rng.at('sizes', index).integers(4, 4);
    const [hiddenSize, innerSize, rank, blockCount] = [32 * (draws[0] + 1), 32 * (draws[1] + 2), draws[2] + 1, draws[3] + 1];
    const shape = llamaShape({ hiddenSize, innerSize, blockCount, headCount: 4, keyValueHeadCount: 2, vocabularySize: 1 });
    const linears = shape.layers.flatMap((layer) =>
      Array.from({ length: layer.count }, (_, block) => randomLinear(layer, format, rank, rng.at(index, layer.name, block))),
    );
    let counted = 0;
    for (const linear of linears) counted += await packedBytes(linear.state());
    const names = shape.layers.map(({ name }) => name);
    const groups = format.groupSize === -1 ? 'one group an output' : `groups of ${format.groupSize}`;
    rows.push({
      config: 'made up',
      quantity: `Linears of a Llama of width ${hiddenSize}, INT${format.bits}, ${groups}, adapters of rank ${rank}`,
      baseline: '',
      unit: 'bytes',
      calculated: quantizedBytes({ ...shape, embeddings: 0, norms: 0 }, format) + 2 * adapterParameters(shape, rank, names),
      counted,
      stored: linears.reduce((bits, { storageBits }) => bits + storageBits, 0) / 8,
    });
  }
  return rows;
}

/** A Linear of random codes with a random adapter, stored as the methods store them. */
function randomLinear({ inFeatures, outFeatures }: LayerShape, { bits, groupSize }: CodeFormat, rank: number, rng: Rng): LowRankLinear {
  const groups = groupSize === -1 ? 1 : inFeatures / groupSize;
  const codes = (name: string, columns: number): Tensor =>
    tensor(Uint8Array.from(rng.at(name).integers(outFeatures * columns, 2 ** bits)), [outFeatures, columns]);
  const floats = (name: string, rows: number, columns: number): Tensor => tensor(rng.at(name).uniform(rows * columns), [rows, columns]);
  const weight = new AffineWeight({
    bits,
    codes: codes('codes', inFeatures),
    zeroPoint: codes('zero points', groups),
    scale: floats('scale', outFeatures, groups),
    scaleDtype: 'float16',
  });
  return new LowRankLinear({
    base: new QuantizedLinear(weight),
    down: floats('down', rank, inFeatures),
    up: floats('up', outFeatures, rank),
    factorDtype: 'float16',
  });
}

/** Bytes of the tensors as a file has them: codes packed, halves in 16 bits. */
async function packedBytes({ tensors, packedBits = {}, half = [], parts = {} }: LinearState): Promise<number> {
  let bytes = 0;
  for (const [name, t] of Object.entries(tensors)) {
    const values = await read(t);
    const bits = packedBits[name];
    bytes += (bits !== undefined ? packCodes(codesOf(values, name), bits) : half.includes(name) ? new Uint16Array(t.size) : values)
      .byteLength;
  }
  for (const part of Object.values(parts)) bytes += await packedBytes(part);
  return bytes;
}

function codesOf(values: ArrayBufferView, name: string): Uint8Array {
  if (values instanceof Uint8Array) return values;
  throw new LowbitError('DTYPE', `${name}: codes that are packed must be uint8`);
}
