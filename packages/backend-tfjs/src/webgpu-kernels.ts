// Kernels for WebGPU where those of TensorFlow.js are not exact: they compute integers in float32, relabel integers as floats without
// converting them, cannot transpose them, and take the sine of the driver, which may be wrong in the fifth digit.
import { broadcastShapes, type Shape, sizeOf, stridesOf } from '@lowbit/core';
import type { KernelFunc, TensorInfo } from '@tensorflow/tfjs-core';
import { broadcastStrides } from './broadcast.js';

/** What the kernels use of TensorFlow.js' WebGPU backend. */
interface ProgramRunner {
  runWebGPUProgram(program: Program, inputs: readonly TensorInfo[], dtype: TensorInfo['dtype']): TensorInfo;
}

/** A compute shader as TensorFlow.js takes it: it adds bindings, helpers, and a cache by `shaderKey`. */
interface Program {
  readonly variableNames: readonly string[];
  readonly outputShape: number[];
  readonly workgroupSize: readonly [number, number, number];
  readonly dispatchLayout: { readonly x: readonly number[] };
  readonly dispatch: readonly [number, number, number];
  readonly size: true;
  readonly shaderKey: string;
  getUserCode(): string;
}

const WORKGROUP = 64;
const NAMES = ['A', 'B'];

/** One element of the output at a time: `code` is WGSL that sees its `index` and calls setOutputAtIndex or setOutputAtIndexI32. */
function runElementwise(
  backend: ProgramRunner,
  inputs: readonly TensorInfo[],
  output: { readonly shape: Shape; readonly dtype: TensorInfo['dtype'] },
  name: string,
  code: string,
): TensorInfo {
  const size = sizeOf(output.shape);
  const program: Program = {
    variableNames: NAMES.slice(0, inputs.length),
    outputShape: [size],
    workgroupSize: [WORKGROUP, 1, 1],
    dispatchLayout: { x: [0] },
    dispatch: [Math.ceil(size / WORKGROUP), 1, 1],
    size: true,
    shaderKey: `lowbit ${name}`,
    getUserCode: () => `fn main(index : i32) {\n  if (index < uniforms.size) {\n    ${code}\n  }\n}`,
  };
  // All memory is row-major: helpers for axes are not needed, and limits on their number do not apply.
  const flat = inputs.map(({ dataId, shape, dtype }) => ({ dataId, shape: [sizeOf(shape)], dtype }));
  const { dataId } = backend.runWebGPUProgram(program, flat, output.dtype);
  return { dataId, shape: [...output.shape], dtype: output.dtype };
}

/** WGSL that sets `places[i]` to where element `index` of an output of that shape is in input i. */
function placesCode(shape: Shape, strides: readonly (readonly number[])[]): string {
  const lines = strides.map((_, i) => `var place${i} = 0;`);
  lines.push('var rest = index;');
  for (const [axis, stride] of stridesOf(shape).entries()) {
    lines.push(`let c${axis} = rest / ${stride}; rest = rest % ${stride};`);
    for (const [i, own] of strides.entries()) if (own[axis] !== 0) lines.push(`place${i} = place${i} + c${axis} * ${own[axis]};`);
  }
  return lines.join(' ');
}

const isInteger = ({ dtype }: TensorInfo): boolean => dtype !== 'float32';

type Override = (original: KernelFunc) => KernelFunc;

const integerBinary =
  (operator: '+' | '-' | '*'): Override =>
  (original) =>
  (call) => {
    const { a, b } = call.inputs as { a: TensorInfo; b: TensorInfo };
    if (!isInteger(a)) return original(call);
    const shape = broadcastShapes(operator, a.shape, b.shape);
    const places = placesCode(
      shape,
      [a, b].map((x) => broadcastStrides(x.shape, shape)),
    );
    const code = `${places} setOutputAtIndexI32(index, A[place0] ${operator} B[place1]);`;
    return runElementwise(call.backend as ProgramRunner, [a, b], { shape, dtype: 'int32' }, code, code);
  };

const transpose: Override = (original) => (call) => {
  const { x } = call.inputs as { x: TensorInfo };
  if (!isInteger(x)) return original(call);
  const perm = call.attrs?.perm as unknown as number[];
  const shape = perm.map((axis) => x.shape[axis]);
  const strides = stridesOf(x.shape);
  const code = `${placesCode(shape, [perm.map((axis) => strides[axis])])} setOutputAtIndexI32(index, A[place0]);`;
  return runElementwise(call.backend as ProgramRunner, [x], { shape, dtype: x.dtype }, code, code);
};

const cast: Override = (original) => (call) => {
  const { x } = call.inputs as { x: TensorInfo };
  if (!isInteger(x) || (call.attrs?.dtype as unknown) !== 'float32') return original(call);
  const code = 'setOutputAtIndex(index, f32(A[index]));';
  return runElementwise(call.backend as ProgramRunner, [x], { shape: x.shape, dtype: 'float32' }, 'to float', code);
};

/**
 * sin(x) = (−1)^k sin(x − kπ) with k = round(x/π), π in three parts of few digits, and the Taylor series of degree 11, which is within 6e-8 on
 * [−π/2, π/2]. For cos, k is a half more. Beyond 2e5 kπ is not exact, and what is left may be anything in [−1, 1].
 */
const trigonometric =
  (half: '0.0' | '0.5'): Override =>
  () =>
  (call) => {
    const { x } = call.inputs as { x: TensorInfo };
    const code = `
      let v = A[index];
      let n = round(v * 0.31830988618 - ${half});
      let k = n + ${half};
      let r = ((v - k * 3.140625) - k * 9.67502593994140625e-4) - k * 1.509957990978376432e-7;
      let s = r * r;
      let series = r * (1.0 + s * (-1.0 / 6.0 + s * (1.0 / 120.0 + s * (-1.0 / 5040.0 + s * (1.0 / 362880.0 - s / 39916800.0)))));
      let held = clamp(series, -1.0, 1.0);
      let isOdd = n - 2.0 * floor(n * 0.5) > 0.5;
      setOutputAtIndex(index, select(held, -held, isOdd${half === '0.5' ? ' != true' : ''}));`;
    return runElementwise(call.backend as ProgramRunner, [x], { shape: x.shape, dtype: 'float32' }, `sine ${half}`, code);
  };

/** By the names of the kernels that they stand in for. */
export const webgpuKernels: Readonly<Record<string, Override | undefined>> = {
  Add: integerBinary('+'),
  Sub: integerBinary('-'),
  Multiply: integerBinary('*'),
  Transpose: transpose,
  Cast: cast,
  Sin: trigonometric('0.0'),
  Cos: trigonometric('0.5'),
};
