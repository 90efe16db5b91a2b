// Kernels for WebAssembly in the place of TensorFlow.js' own, which find each element's place anew where shapes differ (Equal, Tile, …), lose a NaN
// (Maximum, Minimum), and write four bytes for a truth value, over what lies behind it (Select).
import { broadcastShapes, type TypedArray } from '@lowbit/core';
import type { KernelFunc, TensorInfo } from '@tensorflow/tfjs-core';
import { forEachRun } from './broadcast.js';

/** What the kernels use of TensorFlow.js' WebAssembly backend. */
export interface WasmMemory {
  makeOutput(shape: number[], dtype: TensorInfo['dtype']): TensorInfo;
  /** A view, until memory grows. */
  typedArrayFromHeap(x: TensorInfo): TypedArray;
}

/** Elements [start, start + length) of the output, from those of the inputs at their offsets, each the next one or the same again. */
type Loop = (
  output: TypedArray,
  start: number,
  length: number,
  inputs: readonly TypedArray[],
  offsets: readonly number[],
  steps: readonly number[],
) => void;

function elementwise(names: readonly string[], loop: Loop, dtypeOf: (first: TensorInfo) => TensorInfo['dtype']): KernelFunc {
  return ({ inputs, backend }) => {
    const memory = backend as unknown as WasmMemory;
    const operands = names.map((name) => inputs[name] as TensorInfo);
    const shapes = operands.map(({ shape }) => shape);
    const shape = broadcastShapes('elementwise', ...shapes);
    const output = memory.makeOutput(shape, dtypeOf(operands[operands.length - 1]));
    const [target, ...sources] = [output, ...operands].map((x) => memory.typedArrayFromHeap(x));
    forEachRun(shape, shapes, (start, length, offsets, steps) => loop(target, start, length, sources, offsets, steps));
    return output;
  };
}

// Each loop is written out: a function that is called for each element would cost more than the element.

const equal: Loop = (output, start, length, [a, b], [i, j], [stepA, stepB]) => {
  for (let k = 0; k < length; k++) output[start + k] = a[i + k * stepA] === b[j + k * stepB] ? 1 : 0;
};

const less: Loop = (output, start, length, [a, b], [i, j], [stepA, stepB]) => {
  for (let k = 0; k < length; k++) output[start + k] = a[i + k * stepA] < b[j + k * stepB] ? 1 : 0;
};

const lessEqual: Loop = (output, start, length, [a, b], [i, j], [stepA, stepB]) => {
  for (let k = 0; k < length; k++) output[start + k] = a[i + k * stepA] <= b[j + k * stepB] ? 1 : 0;
};

const maximum: Loop = (output, start, length, [a, b], [i, j], [stepA, stepB]) => {
  for (let k = 0; k < length; k++) {
    const x = a[i + k * stepA];
    const y = b[j + k * stepB];
    output[start + k] = x > y || Number.isNaN(x) ? x : y;
  }
};

const minimum: Loop = (output, start, length, [a, b], [i, j], [stepA, stepB]) => {
  for (let k = 0; k < length; k++) {
    const x = a[i + k * stepA];
    const y = b[j + k * stepB];
    output[start + k] = x < y || Number.isNaN(x) ? x : y;
  }
};

const select: Loop = (output, start, length, [condition, t, e], [c, i, j], [stepC, stepT, stepE]) => {
  for (let k = 0; k < length; k++) output[start + k] = condition[c + k * stepC] ? t[i + k * stepT] : e[j + k * stepE];
};

const copy: Loop = (output, start, length, [x], [i], [step]) => {
  if (step === 0) output.fill(x[i], start, start + length);
  else output.set(x.subarray(i, i + length), start);
};

/** Copies along axes of one element alone: what our operators ask for. */
const tile: KernelFunc = ({ inputs, attrs, backend }) => {
  const { x } = inputs as { x: TensorInfo };
  const { reps } = attrs as unknown as { reps: number[] };
  const memory = backend as unknown as WasmMemory;
  const shape = x.shape.map((size, axis) => size * reps[axis]);
  const output = memory.makeOutput(shape, x.dtype);
  const [target, source] = [output, x].map((tensor) => memory.typedArrayFromHeap(tensor));
  forEachRun(shape, [x.shape], (start, length, offsets, steps) => copy(target, start, length, [source], offsets, steps));
  return output;
};

const truth = (): 'bool' => 'bool';
const same = ({ dtype }: TensorInfo): TensorInfo['dtype'] => dtype;

export const wasmElementwise: Readonly<Record<string, KernelFunc>> = {
  Equal: elementwise(['a', 'b'], equal, truth),
  Less: elementwise(['a', 'b'], less, truth),
  LessEqual: elementwise(['a', 'b'], lessEqual, truth),
  Maximum: elementwise(['a', 'b'], maximum, same),
  Minimum: elementwise(['a', 'b'], minimum, same),
  Select: elementwise(['condition', 't', 'e'], select, same),
  Tile: tile,
};
