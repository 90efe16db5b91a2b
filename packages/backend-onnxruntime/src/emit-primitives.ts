// How each primitive operator becomes ONNX nodes.
import { causalMaskValues, type DType, type Expression, type PrimitiveName, type Shape, type Tensor } from '@lowbit/core';
import { castTarget, type OnnxGraph } from './onnx-graph.js';

interface EmitContext {
  readonly graph: OnnxGraph;
  /** ONNX names of the inputs. */
  readonly names: readonly string[];
  readonly inputs: readonly Tensor[];
  readonly attributes: Expression['attributes'];
  readonly output: Tensor;
}

/** Adds nodes and returns the ONNX name of the result. */
export type Emitter = (context: EmitContext) => string;

export const MICROSOFT = 'com.microsoft';

/** An operator with the same name and broadcasting in ONNX. */
const direct =
  (op: string): Emitter =>
  ({ graph, names }) =>
    graph.node(op, names);

export function emitReshape(graph: OnnxGraph, name: string, shape: Shape): string {
  return graph.node('Reshape', [name, graph.indices(shape)]);
}

const reduction =
  (op: string): Emitter =>
  ({ graph, names, attributes }) => {
    const axes = attributes.axes as readonly number[];
    // ONNX reads an empty list as "all axes", we mean none.
    if (axes.length === 0) return graph.node('Identity', names);
    return graph.node(op, [names[0], graph.indices(axes)], { keepdims: { int: attributes.keepDims ? 1 : 0 } });
  };

const lastAxis =
  (op: string): Emitter =>
  ({ graph, names }) =>
    graph.node(op, names, { axis: { int: -1 } });

const emitMatmul: Emitter = ({ graph, names, inputs: [a, b], attributes }) => {
  const transA = attributes.transposeA ? 1 : 0;
  const transB = attributes.transposeB ? 1 : 0;
  if (a.rank === 2 && b.rank === 2) return graph.node('Gemm', names, { transA: { int: transA }, transB: { int: transB } });
  if (transA === 0 && transB === 0) return graph.node('MatMul', names);
  return graph.node('FusedMatMul', names, { transA: { int: transA }, transB: { int: transB }, alpha: { float: 1 } }, MICROSOFT);
};

const emitScatterAdd: Emitter = ({ graph, names: [indices, updates], inputs, output }) => {
  const inner = output.shape.slice(1);
  const count = inputs[0].size;
  const zeros = graph.node('Expand', [graph.initializer([0], [], output.dtype), graph.indices(output.shape)]);
  const positions = emitReshape(graph, graph.node('Cast', [indices], { to: castTarget('int64') }), [count, 1]);
  const rows = emitReshape(graph, updates, [count, ...inner]);
  return graph.node('ScatterND', [zeros, positions, rows], { reduction: { string: 'add' } });
};

const emitPad: Emitter = ({ graph, names, inputs: [x], attributes }) => {
  const zeros = x.shape.map(() => 0);
  const before = zeros.with(attributes.axis as number, attributes.before as number);
  const after = zeros.with(attributes.axis as number, attributes.after as number);
  return graph.node('Pad', [names[0], graph.indices([...before, ...after])]);
};

const emitSlice: Emitter = ({ graph, names, attributes }) =>
  graph.node('Slice', [
    names[0],
    graph.indices([attributes.start as number]),
    graph.indices([attributes.end as number]),
    graph.indices([attributes.axis as number]),
  ]);

const emitTake: Emitter = ({ graph, names: [x, indices], output }) => {
  const taken = graph.node('GatherElements', [x, emitReshape(graph, indices, [...output.shape, 1])], { axis: { int: -1 } });
  return emitReshape(graph, taken, output.shape);
};

const emitMask: Emitter = ({ graph, attributes, output }) => {
  const { rows, columns, offset } = attributes as { rows: number; columns: number; offset: number };
  return graph.initializer(Float32Array.from(causalMaskValues(rows, columns, offset)), output.shape, 'float32');
};

/** What values of two types both hold, where the second is a byte that may not hold all of the first. */
const byteLimits: Readonly<Partial<Record<DType, Readonly<Partial<Record<DType, readonly number[]>>>>>> = {
  int8: { float32: [-128, 127], int32: [-128, 127], uint8: [0, 127] },
  uint8: { float32: [0, 255], int32: [0, 255], int8: [0, 127] },
};

/** The engine wraps what a byte does not hold; the operator saturates. */
const emitCast: Emitter = ({ graph, names: [x], inputs: [{ dtype: from }], output: { dtype } }) => {
  const limits = byteLimits[dtype]?.[from]?.map((limit) => graph.initializer([limit], [], from));
  return graph.node('Cast', [limits ? graph.node('Clip', [x, ...limits]) : x], { to: castTarget(dtype) });
};

/** The engine's kernel takes neither bytes with a sign nor bools. */
const emitWhere: Emitter = ({ graph, names: [condition, ...values], output: { dtype } }) => {
  if (dtype !== 'int8' && dtype !== 'bool') return graph.node('Where', [condition, ...values]);
  const wide = values.map((name) => graph.node('Cast', [name], { to: castTarget('int32') }));
  return graph.node('Cast', [graph.node('Where', [condition, ...wide])], { to: castTarget(dtype) });
};

/** An order among bools, which the engine does not have. */
const inOrder =
  (op: string): Emitter =>
  ({ graph, names, inputs: [{ dtype }] }) =>
    graph.node(op, dtype === 'bool' ? names.map((name) => graph.node('Cast', [name], { to: castTarget('int32') })) : names);

const passThrough: Emitter = ({ names }) => names[0];

export const primitiveEmitters: Readonly<Record<PrimitiveName, Emitter>> = {
  neg: direct('Neg'),
  abs: direct('Abs'),
  sign: direct('Sign'),
  exp: direct('Exp'),
  log: direct('Log'),
  sqrt: direct('Sqrt'),
  sin: direct('Sin'),
  cos: direct('Cos'),
  tanh: direct('Tanh'),
  sigmoid: direct('Sigmoid'),
  erf: direct('Erf'),
  floor: direct('Floor'),
  round: direct('Round'),
  add: direct('Add'),
  sub: direct('Sub'),
  mul: direct('Mul'),
  div: direct('Div'),
  pow: direct('Pow'),
  maximum: direct('Max'),
  minimum: direct('Min'),
  equal: direct('Equal'),
  less: inOrder('Less'),
  lessEqual: inOrder('LessOrEqual'),
  where: emitWhere,
  constant: ({ graph, attributes, output }) => graph.initializer([attributes.value as number], [], output.dtype),
  causalMask: emitMask,
  cast: emitCast,
  detach: passThrough,
  straightThrough: passThrough,
  sum: reduction('ReduceSum'),
  max: reduction('ReduceMax'),
  argmax: ({ graph, names }) =>
    graph.node('Cast', [graph.node('ArgMax', names, { axis: { int: -1 }, keepdims: { int: 0 } })], { to: castTarget('int32') }),
  softmax: lastAxis('Softmax'),
  logSoftmax: lastAxis('LogSoftmax'),
  reshape: ({ graph, names, output }) => emitReshape(graph, names[0], output.shape),
  transpose: ({ graph, names, attributes }) =>
    graph.node('Transpose', names, { perm: { ints: attributes.permutation as readonly number[] } }),
  broadcastTo: ({ graph, names, output }) => graph.node('Expand', [names[0], graph.indices(output.shape)]),
  slice: emitSlice,
  concat: ({ graph, names, attributes }) => graph.node('Concat', names, { axis: { int: attributes.axis as number } }),
  pad: emitPad,
  gather: ({ graph, names, attributes }) => graph.node('Gather', names, { axis: { int: attributes.axis as number } }),
  scatterAdd: emitScatterAdd,
  takeAlongLast: emitTake,
  matmul: emitMatmul,
};
