// How each primitive operator becomes calls of TensorFlow.js kernels.
import {
  type Attributes,
  broadcastShapes,
  causalMaskValues,
  type PrimitiveName,
  type Shape,
  sameShape,
  sizeOf,
  type Tensor,
} from '@lowbit/core';
import { jointAxes } from './broadcast.js';
import type { Constants } from './constants.js';
import { type Device, type DeviceType, deviceTypes, type KernelAttributes, type Value } from './device.js';

/** One operator's kernels. What they make but the result is freed with it. */
class Call {
  readonly #device: Device;
  readonly #made = new Set<Value>();
  readonly constants: Constants;
  readonly inputs: readonly Value[];
  readonly attributes: Attributes;
  readonly output: Tensor;

  constructor(device: Device, constants: Constants, inputs: readonly Value[], attributes: Attributes, output: Tensor) {
    this.#device = device;
    this.constants = constants;
    this.inputs = inputs;
    this.attributes = attributes;
    this.output = output;
  }

  run(kernel: string, inputs: Readonly<Record<string, Value>> | readonly Value[], attributes: KernelAttributes = {}): Value {
    const value = this.#device.run(kernel, inputs, attributes);
    this.#made.add(value);
    return value;
  }

  reshape(x: Value, shape: Shape): Value {
    return sameShape(x.shape, shape) ? x : this.run('Reshape', { x }, { shape: [...shape] });
  }

  /** NumPy broadcasting, spelled out. */
  broadcast(x: Value, shape: Shape): Value {
    if (sameShape(x.shape, shape)) return x;
    const from = [...new Array<number>(shape.length - x.shape.length).fill(1), ...x.shape];
    const reps = shape.map((size, axis) => (from[axis] === size ? 1 : size));
    return this.run('Tile', { x: this.reshape(x, from) }, { reps });
  }

  cast(x: Value, dtype: DeviceType): Value {
    return x.dtype === dtype ? x : this.run('Cast', { x }, { dtype });
  }

  scalar(number: number, dtype: DeviceType): Value {
    return this.constants.filled(number, [], dtype);
  }

  /** Frees all but the result, which becomes the caller's and has the output's shape. */
  finish(value: Value): Value {
    const shaped = this.reshape(value, this.output.shape);
    const result = this.#made.has(shaped) ? shaped : this.#device.alias(shaped);
    this.#made.delete(result);
    this.abandon();
    return result;
  }

  abandon(): void {
    for (const value of this.#made) this.#device.free(value);
    this.#made.clear();
  }
}

type Emitter = (call: Call) => Value;

const unary =
  (kernel: string): Emitter =>
  (call) =>
    call.run(kernel, { x: call.inputs[0] });

/** Kernels take few axes. */
const MANY_AXES = 5;

const binary =
  (kernel: string): Emitter =>
  (call) => {
    const { inputs, output } = call;
    if (output.rank < MANY_AXES) return call.run(kernel, { a: inputs[0], b: inputs[1] });
    const axes = jointAxes(
      output.shape,
      inputs.map(({ shape }) => shape),
    );
    const [a, b] = inputs.map((x, i) =>
      call.reshape(
        x,
        axes.map(({ size, steps }) => (steps[i] === 0 ? 1 : size)),
      ),
    );
    return call.run(kernel, { a, b });
  };

/** Truncates towards zero where the elements are integers. */
const divide: Emitter = (call) => {
  const [a, b] = call.inputs.map((x) => call.cast(x, 'float32'));
  return call.cast(call.run('RealDiv', { a, b }), deviceTypes[call.output.dtype]);
};

const comparison =
  (kernel: string): Emitter =>
  (call) => {
    const [a, b] = call.inputs.map((x) => (x.dtype === 'bool' ? call.cast(x, 'int32') : x));
    return call.run(kernel, { a, b });
  };

const emitWhere: Emitter = (call) => {
  const [condition, t, e] = call.inputs.map((x) => call.broadcast(x, call.output.shape));
  return call.run('Select', { condition, t, e });
};

const limits = { int8: [-128, 127], uint8: [0, 255] } as const;

/** Bytes saturate. */
const emitCast: Emitter = (call) => {
  const [x] = call.inputs;
  const { dtype } = call.output;
  if (dtype === 'bool') return call.run('NotEqual', { a: x, b: call.scalar(0, x.dtype) });
  if ((dtype !== 'int8' && dtype !== 'uint8') || x.dtype === 'bool') return call.cast(x, deviceTypes[dtype]);
  const [low, high] = limits[dtype].map((limit) => call.scalar(limit, x.dtype));
  const held = call.run('Minimum', { a: call.run('Maximum', { a: x, b: low }), b: high });
  return call.cast(held, 'int32');
};

const emitSum: Emitter = (call) => {
  const axis = call.attributes.axes as number[];
  return axis.length === 0 ? call.inputs[0] : call.run('Sum', { x: call.inputs[0] }, { axis, keepDims: false });
};

const emitMax: Emitter = (call) => {
  const reductionIndices = call.attributes.axes as number[];
  return reductionIndices.length === 0 ? call.inputs[0] : call.run('Max', { x: call.inputs[0] }, { reductionIndices, keepDims: false });
};

/** x − max + log of the largest probability, which is 1 / Σ exp(x − max): there is no kernel, and exponentials alone are slow on WebAssembly. */
const emitLogSoftmax: Emitter = (call) => {
  const [x] = call.inputs;
  const last = x.shape.length - 1;
  const peakOf = (of: Value): Value => call.run('Max', { x: of }, { reductionIndices: [last], keepDims: true });
  const largest = peakOf(call.run('Softmax', { logits: x }, { dim: last }));
  return call.run('Add', { a: call.run('Sub', { a: x, b: peakOf(x) }), b: call.run('Log', { x: largest }) });
};

const emitSlice: Emitter = (call) => {
  const [x] = call.inputs;
  const { axis, start } = call.attributes as { axis: number; start: number };
  return call.run('Slice', { x }, { begin: x.shape.map((_, i) => (i === axis ? start : 0)), size: [...call.output.shape] });
};

/** Of three axes, since the kernel for WebGPU fails on five. */
const emitPad: Emitter = (call) => {
  const [{ shape }] = call.inputs;
  const { axis, before, after } = call.attributes as { axis: number; before: number; after: number };
  const x = call.reshape(call.inputs[0], [sizeOf(shape.slice(0, axis)), shape[axis], sizeOf(shape.slice(axis + 1))]);
  return call.run(
    'PadV2',
    { x },
    {
      paddings: [
        [0, 0],
        [before, after],
        [0, 0],
      ],
      constantValue: 0,
    },
  );
};

const emitScatterAdd: Emitter = (call) => {
  const count = sizeOf(call.inputs[0].shape);
  const inner = sizeOf(call.output.shape.slice(1));
  const indices = call.reshape(call.inputs[0], [count, 1]);
  const updates = call.reshape(call.inputs[1], [count, inner]);
  return call.run('ScatterNd', { indices, updates }, { shape: [call.output.shape[0], inner] });
};

/** A look-up by row and place, since no kernel gathers along the last axis. */
const emitTake: Emitter = (call) => {
  const [x, indices] = call.inputs;
  const width = x.shape[x.shape.length - 1];
  const rows = sizeOf(indices.shape);
  const row = call.constants.table(`rows ${rows}`, [rows, 1], 'int32', () => Int32Array.from({ length: rows }, (_, i) => i));
  const places = call.run('Concat', [row, call.reshape(indices, [rows, 1])], { axis: 1 });
  return call.run('GatherNd', { params: call.reshape(x, [rows, width]), indices: places });
};

const emitMask: Emitter = (call) => {
  const { rows, columns, offset } = call.attributes as { rows: number; columns: number; offset: number };
  return call.constants.table(`mask ${rows} ${columns} ${offset}`, [rows, columns], 'float32', () =>
    Float32Array.from(causalMaskValues(rows, columns, offset)),
  );
};

/** The kernels take batches that are equal, or one. */
const emitMatmul: Emitter = (call) => {
  const { transposeA, transposeB } = call.attributes;
  const batchesOf = ({ shape }: Value): Shape => shape.slice(0, -2);
  const [batchesA, batchesB] = call.inputs.map(batchesOf);
  const isPlain = sameShape(batchesA, batchesB) || sizeOf(batchesA) === 1 || sizeOf(batchesB) === 1;
  const batches = broadcastShapes('matmul', batchesA, batchesB);
  const [a, b] = call.inputs.map((x) => {
    const matrix = x.shape.slice(-2);
    const spread = isPlain ? x : call.broadcast(x, [...batches, ...matrix]);
    return call.reshape(spread, [sizeOf(batchesOf(spread)), ...matrix]);
  });
  return call.run('BatchMatMul', { a, b }, { transposeA, transposeB });
};

const emitters: Readonly<Record<Exclude<PrimitiveName, 'detach' | 'straightThrough'>, Emitter>> = {
  neg: unary('Neg'),
  abs: unary('Abs'),
  sign: unary('Sign'),
  exp: unary('Exp'),
  log: unary('Log'),
  sqrt: unary('Sqrt'),
  sin: unary('Sin'),
  cos: unary('Cos'),
  tanh: unary('Tanh'),
  sigmoid: unary('Sigmoid'),
  erf: unary('Erf'),
  floor: unary('Floor'),
  round: unary('Round'),
  add: binary('Add'),
  sub: binary('Sub'),
  mul: binary('Multiply'),
  div: divide,
  pow: binary('Pow'),
  maximum: binary('Maximum'),
  minimum: binary('Minimum'),
  equal: comparison('Equal'),
  less: comparison('Less'),
  lessEqual: comparison('LessEqual'),
  where: emitWhere,
  constant: (call) => call.scalar(call.attributes.value as number, deviceTypes[call.output.dtype]),
  causalMask: emitMask,
  cast: emitCast,
  sum: emitSum,
  max: emitMax,
  argmax: (call) => call.run('ArgMax', { x: call.inputs[0] }, { axis: call.inputs[0].shape.length - 1 }),
  softmax: (call) => call.run('Softmax', { logits: call.inputs[0] }, { dim: call.inputs[0].shape.length - 1 }),
  logSoftmax: emitLogSoftmax,
  reshape: ({ inputs: [x] }) => x,
  transpose: (call) => call.run('Transpose', { x: call.inputs[0] }, { perm: [...(call.attributes.permutation as number[])] }),
  broadcastTo: (call) => call.broadcast(call.inputs[0], call.output.shape),
  slice: emitSlice,
  concat: (call) =>
    call.run(
      'Concat',
      call.inputs.filter(({ shape }) => sizeOf(shape) > 0),
      { axis: call.attributes.axis },
    ),
  pad: emitPad,
  gather: (call) => call.run('GatherV2', { x: call.inputs[0], indices: call.inputs[1] }, { axis: call.attributes.axis, batchDims: 0 }),
  scatterAdd: emitScatterAdd,
  takeAlongLast: emitTake,
  matmul: emitMatmul,
};

/** What an operator gives for inputs without elements. */
function computeEmpty(call: Call, op: PrimitiveName): Value {
  return call.constants.filled(op === 'max' ? -Infinity : 0, call.output.shape, deviceTypes[call.output.dtype]);
}

/** Runs an operator. The result becomes the caller's. */
export function compute(device: Device, constants: Constants, node: Tensor, inputs: readonly Value[]): Value {
  if (node.source.kind === 'leaf') throw new TypeError('a leaf is not computed');
  const { op, attributes } = node.source;
  const call = new Call(device, constants, inputs, attributes, node);
  const isEmpty = node.size === 0 || (op !== 'concat' && inputs.some(({ shape }) => sizeOf(shape) === 0));
  try {
    return call.finish(isEmpty ? computeEmpty(call, op as PrimitiveName) : emitters[op as keyof typeof emitters](call));
  } catch (error) {
    call.abandon();
    throw error;
  }
}
