// A kernel for WebAssembly in the place of one that copies its whole input to JavaScript's memory first.
import { type Shape, sizeOf, type TypedArray } from '@lowbit/core';
import type { KernelFunc, TensorInfo } from '@tensorflow/tfjs-core';
import { batchMatMul } from './wasm-matmul.js';

/** What the kernel uses of TensorFlow.js' WebAssembly backend. */
interface WasmBackend {
  makeOutput(shape: number[], dtype: TensorInfo['dtype']): TensorInfo;
  /** A view, until memory grows. */
  typedArrayFromHeap(x: TensorInfo): TypedArray;
}

/** Elements [start, end) of one axis, or of none: what our operator asks for. */
const slice: KernelFunc = ({ inputs, attrs, backend }) => {
  const { x } = inputs as { x: TensorInfo };
  const { begin, size } = attrs as unknown as { begin: number[]; size: number[] };
  const wasm = backend as WasmBackend;
  const output = wasm.makeOutput(size, x.dtype);
  const axis = Math.max(
    0,
    size.findIndex((length, i) => length !== x.shape[i]),
  );
  const inner = sizeOf(x.shape.slice(axis + 1));
  copyRuns(wasm.typedArrayFromHeap(x), wasm.typedArrayFromHeap(output), {
    runs: sizeOf(x.shape.slice(0, axis)),
    from: (begin[axis] ?? 0) * inner,
    stride: axisLength(x.shape, axis) * inner,
    length: axisLength(size, axis) * inner,
  });
  return output;
};

/** A scalar counts as one element. */
function axisLength(shape: Shape, axis: number): number {
  return shape[axis] ?? 1;
}

interface Runs {
  readonly runs: number;
  /** First element of the first run, elements from one run to the next, and of a run. */
  readonly from: number;
  readonly stride: number;
  readonly length: number;
}

function copyRuns(source: TypedArray, target: TypedArray, { runs, from, stride, length }: Runs): void {
  for (let run = 0; run < runs; run++) {
    const start = from + run * stride;
    // A view costs more than a few elements.
    if (length < 16) for (let i = 0; i < length; i++) target[run * length + i] = source[start + i];
    else target.set(source.subarray(start, start + length), run * length);
  }
}

/** By the names of the kernels that they stand in for, over those of TensorFlow.js. */
export function wasmKernels(kernel: (name: string) => KernelFunc | undefined): Readonly<Record<string, KernelFunc | undefined>> {
  return { Slice: slice, BatchMatMul: batchMatMul(kernel('Transpose') as KernelFunc) };
}
