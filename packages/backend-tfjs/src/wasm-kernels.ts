// Kernels for WebAssembly in the place of TensorFlow.js' own: Slice, which copies its whole input to JavaScript's memory first, and those of other files.
import { type Shape, sizeOf, type TypedArray } from '@lowbit/core';
import type { KernelFunc, TensorInfo } from '@tensorflow/tfjs-core';
import { type WasmMemory, wasmElementwise } from './wasm-elementwise.js';
import { batchMatMul } from './wasm-matmul.js';

/** Elements [start, end) of one axis, or of none: what our operator asks for. */
const slice: KernelFunc = ({ inputs, attrs, backend }) => {
  const { x } = inputs as { x: TensorInfo };
  const { begin, size } = attrs as unknown as { begin: number[]; size: number[] };
  const wasm = backend as unknown as WasmMemory;
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

/** These take six axes at most, and compute something else on more. */
const ofSixAxes: readonly string[] = ['Add', 'Sub', 'Multiply', 'RealDiv', 'Pow', 'NotEqual', 'Transpose', 'Sum', 'Max'];

const refusingMore =
  (kernel: KernelFunc): KernelFunc =>
  (call) => {
    if (Object.values(call.inputs).some((x) => (x as TensorInfo).shape.length > 6)) throw new Error('it takes six axes at most');
    return kernel(call);
  };

/** Kernels by name: ours where there are some, over those of TensorFlow.js. */
export function wasmKernels(kernel: (name: string) => KernelFunc | undefined): (name: string) => KernelFunc | undefined {
  const own: Record<string, KernelFunc | undefined> = {
    ...wasmElementwise,
    Slice: slice,
    BatchMatMul: batchMatMul(kernel('Transpose') as KernelFunc),
  };
  for (const name of ofSixAxes) own[name] = refusingMore(kernel(name) as KernelFunc);
  return (name) => own[name] ?? kernel(name);
}
