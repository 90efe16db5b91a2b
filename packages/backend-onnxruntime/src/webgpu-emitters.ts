// Operators that WebGPU has no kernel for, or an inexact one, as nodes that it has. What it lacks otherwise runs on the processor.
import type { PrimitiveName } from '@lowbit/core';
import { type Emitter, emitReshape, primitiveEmitters } from './emit-primitives.js';
import { castTarget, type OnnxGraph } from './onnx-graph.js';

const scalar = (graph: OnnxGraph, value: number): string => graph.initializer([value], [], 'float32');

/** Shaders may be off by 2⁻¹¹ in sine and cosine: in float64 they run on the processor. */
const inFloat64 =
  (op: string): Emitter =>
  ({ graph, names: [x] }) =>
    graph.node('Cast', [graph.node(op, [graph.node('Cast', [x], { to: castTarget('float64') })])], { to: castTarget('float32') });

/** From 2²³ on floats are whole numbers, so that adding it to a smaller one rounds it, half to even. */
const emitRound: Emitter = ({ graph, names: [x] }) => {
  const limit = scalar(graph, 2 ** 23);
  const size = graph.node('Abs', [x]);
  const rounded = graph.node('Sub', [graph.node('Add', [size, limit]), limit]);
  const signed = graph.node('Where', [graph.node('Less', [x, scalar(graph, 0)]), graph.node('Neg', [rounded]), rounded]);
  return graph.node('Where', [graph.node('Less', [size, limit]), signed, x]);
};

const emitSign: Emitter = ({ graph, names: [x] }) => {
  const zero = scalar(graph, 0);
  const upper = graph.node('Where', [graph.node('Less', [zero, x]), scalar(graph, 1), x]);
  return graph.node('Where', [graph.node('Less', [x, zero]), scalar(graph, -1), upper]);
};

const emitLogSoftmax: Emitter = ({ graph, names: [x] }) => {
  const overLast = (op: string, name: string): string => graph.node(op, [name, graph.indices([-1])], { keepdims: { int: 1 } });
  const below = graph.node('Sub', [x, overLast('ReduceMax', x)]);
  return graph.node('Sub', [below, graph.node('Log', [overLast('ReduceSum', graph.node('Exp', [below]))])]);
};

/** Gemm takes matrices that lie transposed, MatMul does not, and there is no FusedMatMul. */
const emitMatmul: Emitter = ({ graph, names, inputs, attributes, output }) => {
  const isTransposed = [attributes.transposeA === true, attributes.transposeB === true];
  const [a, b] = inputs;
  const gemm = (left: string): string =>
    graph.node('Gemm', [left, names[1]], {
      transA: { int: a.rank === 2 ? Number(isTransposed[0]) : 0 },
      transB: { int: Number(isTransposed[1]) },
    });
  if (a.rank === 2 && b.rank === 2) return gemm(names[0]);
  if (b.rank === 2 && !isTransposed[0]) {
    const width = a.shape[a.rank - 1];
    return emitReshape(graph, gemm(emitReshape(graph, names[0], [a.shape.slice(0, -1).reduce((x, y) => x * y, 1), width])), output.shape);
  }
  const [left, right] = names.map((name, i) => {
    if (!isTransposed[i]) return name;
    const axes = inputs[i].shape.map((_, axis) => axis);
    return graph.node('Transpose', [name], { perm: { ints: [...axes.slice(0, -2), axes.length - 1, axes.length - 2] } });
  });
  return graph.node('MatMul', [left, right]);
};

/** Bytes are cast, but not cut. */
const emitSlice: Emitter = (context) => {
  const { graph, names, inputs } = context;
  if (inputs[0].dtype !== 'uint8') return primitiveEmitters.slice(context);
  const floats = graph.node('Cast', [names[0]], { to: castTarget('float32') });
  return graph.node('Cast', [primitiveEmitters.slice({ ...context, names: [floats] })], { to: castTarget('uint8') });
};

export const webgpuEmitters: Readonly<Partial<Record<PrimitiveName, Emitter>>> = {
  sin: inFloat64('Sin'),
  cos: inFloat64('Cos'),
  round: emitRound,
  sign: emitSign,
  logSoftmax: emitLogSoftmax,
  matmul: emitMatmul,
  slice: emitSlice,
};
