// Products on WebAssembly. TensorFlow.js multiplies one pair of matrices by XNNPACK where neither is transposed, and everything else in plain loops
// that take twenty times as long; it also keeps what it prepared of a second factor by its memory, whatever shape that is seen in next.
import { sizeOf } from '@lowbit/core';
import type { KernelFunc, TensorInfo } from '@tensorflow/tfjs-core';

/** What the kernel uses of TensorFlow.js' WebAssembly backend. */
interface WasmBackend {
  readonly wasm: {
    cwrap(name: 'BatchMatMul', result: null, types: readonly ('number' | 'array')[]): (...args: (number | Uint8Array)[]) => void;
    readonly tfjs: {
      registerTensor(id: number, size: number, offset: number): void;
      /** Forgets a number and what was prepared for it. The memory stays. */
      disposeData(id: number): void;
    };
  };
  /** Numbers of tensors that have not been given out. */
  dataIdNextNumber: number;
  getMemoryOffset(dataId: TensorInfo['dataId']): number;
  makeOutput(shape: number[], dtype: TensorInfo['dtype']): TensorInfo;
  disposeData(dataId: TensorInfo['dataId']): void;
}

const ARGUMENTS = ['number', 'array', 'number', 'number', 'array', 'number', 'number', 'number', 'number'] as const;

/** [batches, rows, inner] · [batches, inner, columns]; where one factor has a single batch, it meets each of the other's. */
function multiply(backend: WasmBackend, a: TensorInfo, b: TensorInfo): TensorInfo {
  const [rows, columns] = [a.shape[1], b.shape[2]];
  const output = backend.makeOutput([Math.max(a.shape[0], b.shape[0]), rows, columns], 'float32');
  // What several batches share a second factor for are rows of one product.
  const joined = b.shape[0] === 1 ? { ...a, shape: [1, a.shape[0] * rows, a.shape[2]] } : a;
  const { tfjs } = backend.wasm;
  const run = backend.wasm.cwrap('BatchMatMul', null, ARGUMENTS);
  for (let batch = 0; batch < b.shape[0]; batch++) {
    const [left, right, target] = [joined, b, { ...output, shape: [b.shape[0], joined.shape[1], columns] }].map(({ dataId, shape }) => {
      const id = backend.dataIdNextNumber++;
      const size = shape[1] * shape[2];
      tfjs.registerTensor(id, size, backend.getMemoryOffset(dataId) + 4 * size * (shape[0] === 1 ? 0 : batch));
      return { id, shape: new Uint8Array(Int32Array.of(1, shape[1], shape[2]).buffer) };
    });
    run(left.id, left.shape, 3, right.id, right.shape, 3, 0, 0, target.id);
    for (const { id } of [left, right, target]) tfjs.disposeData(id);
  }
  return output;
}

/** Factors of three axes, perhaps transposed. Of a product and its transpose, computes the one for which fewer elements are moved. */
export const batchMatMul =
  (transpose: KernelFunc): KernelFunc =>
  ({ inputs, attrs, backend }) => {
    const { a, b } = inputs as { a: TensorInfo; b: TensorInfo };
    const { transposeA, transposeB } = attrs as unknown as { transposeA: boolean; transposeB: boolean };
    const wasm = backend as unknown as WasmBackend;
    const [sizeA, sizeB] = [a, b].map(({ shape }) => sizeOf(shape));
    const size = Math.max(a.shape[0], b.shape[0]) * a.shape[transposeA ? 2 : 1] * b.shape[transposeB ? 1 : 2];
    // A second factor is moved in any case, into the order in which XNNPACK reads it.
    const moved = (transposeA ? sizeA : 0) + (transposeB ? sizeB : 0) + sizeB;
    const movedForTranspose = (transposeB ? 0 : sizeB) + (transposeA ? 0 : sizeA) + sizeA + size;

    const scratch: TensorInfo[] = [];
    const keep = (x: TensorInfo): TensorInfo => {
      scratch.push(x);
      return x;
    };
    const transposed = (x: TensorInfo): TensorInfo => transpose({ inputs: { x }, attrs: { perm: [0, 2, 1] }, backend }) as TensorInfo;
    const turned = (x: TensorInfo, isTurned: boolean): TensorInfo => (isTurned ? keep(transposed(x)) : x);
    try {
      if (moved <= movedForTranspose) return multiply(wasm, turned(a, transposeA), turned(b, transposeB));
      return transposed(keep(multiply(wasm, turned(b, !transposeB), turned(a, !transposeA))));
    } finally {
      for (const { dataId } of scratch) wasm.disposeData(dataId);
    }
  };
