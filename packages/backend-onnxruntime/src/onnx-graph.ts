// Builds ONNX models as protobuf bytes. Field numbers: onnx.proto3, IR version 10.
import type { DType, Shape, TypedArray } from '@lowbit/core';
import { Message } from './protobuf.js';

const IR_VERSION = 10;
const OPSET = 21;

/** Element types within a graph: int64 is needed for shapes and axes, float64 for what float32 is too inexact for. */
type OnnxType = DType | 'int64' | 'float64';

/** TensorProto.DataType of each. */
const onnxTypes: Readonly<Record<OnnxType, number>> = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7, bool: 9, float64: 11 };

/** A shape in which sizes that differ from run to run have names. */
type OpenShape = readonly (number | string)[];

/** Attribute of an ONNX node. Integers must be tagged, since a JavaScript number does not tell them from floats. */
export type OnnxAttribute =
  | { readonly int: number }
  | { readonly float: number }
  | { readonly ints: readonly number[] }
  | { readonly string: string };

/** An ONNX graph under construction. Values are referred to by name. */
export class OnnxGraph {
  readonly #graph = new Message();
  readonly #initializers = new Map<string, string>();
  readonly #nodeOutputs = new Set<string>();
  #values = 0;

  /** Adds a node and returns the name of its first output. */
  node(op: string, inputs: readonly string[], attributes: Readonly<Record<string, OnnxAttribute>> = {}, domain = ''): string {
    const output = `v${this.#values++}`;
    this.#nodeOutputs.add(output);
    const node = new Message();
    for (const input of inputs) node.string(1, input);
    node.string(2, output).string(4, op);
    for (const [name, value] of Object.entries(attributes)) node.message(5, attributeMessage(name, value));
    if (domain) node.string(7, domain);
    this.#graph.message(1, node);
    return output;
  }

  /** False for inputs and initializers. */
  isNodeOutput(name: string): boolean {
    return this.#nodeOutputs.has(name);
  }

  /** A constant of the program; equal small ones are shared. */
  initializer(values: TypedArray | readonly number[], shape: Shape, dtype: DType | 'int64'): string {
    const key =
      values.length <= 8 ? `${dtype}[${shape}]${Array.from(values, (value) => (Object.is(value, -0) ? '-0' : value)).join()}` : undefined;
    const known = key && this.#initializers.get(key);
    if (known) return known;
    const name = `c${this.#values++}`;
    const tensor = new Message();
    for (const size of shape) tensor.int(1, size);
    tensor.int(2, onnxTypes[dtype]).string(8, name).bytes(9, rawBytes(values, dtype));
    this.#graph.message(5, tensor);
    if (key) this.#initializers.set(key, name);
    return name;
  }

  /** int64 vector: shapes, axes, bounds. */
  indices(values: readonly number[]): string {
    return this.initializer(values, [values.length], 'int64');
  }

  input(name: string, shape: OpenShape, dtype: DType): void {
    this.#graph.message(11, valueInfo(name, shape, dtype));
  }

  output(name: string, shape: OpenShape, dtype: DType): void {
    this.#graph.message(12, valueInfo(name, shape, dtype));
  }

  encode(): Uint8Array<ArrayBuffer> {
    const model = new Message().int(1, IR_VERSION).string(2, 'lowbit').message(7, this.#graph.string(2, 'lowbit'));
    model.message(8, new Message().string(1, '').int(2, OPSET));
    model.message(8, new Message().string(1, 'com.microsoft').int(2, 1));
    return model.encode();
  }
}

function attributeMessage(name: string, value: OnnxAttribute): Message {
  const attribute = new Message().string(1, name);
  if ('float' in value) return attribute.float(2, value.float).int(20, 1);
  if ('int' in value) return attribute.int(3, value.int).int(20, 2);
  if ('string' in value) return attribute.string(4, value.string).int(20, 3);
  for (const item of value.ints) attribute.int(8, item);
  return attribute.int(20, 7);
}

function valueInfo(name: string, shape: OpenShape, dtype: DType): Message {
  const dimensions = new Message();
  for (const size of shape) dimensions.message(1, typeof size === 'string' ? new Message().string(2, size) : new Message().int(1, size));
  const tensorType = new Message().int(1, onnxTypes[dtype]).message(2, dimensions);
  return new Message().string(1, name).message(2, new Message().message(1, tensorType));
}

function rawBytes(values: TypedArray | readonly number[], dtype: DType | 'int64'): Uint8Array {
  switch (dtype) {
    case 'float32':
      return bytesOf(Float32Array.from(values));
    case 'int32':
      return bytesOf(Int32Array.from(values));
    case 'int64':
      return bytesOf(BigInt64Array.from(values as readonly number[], (value) => BigInt(value)));
    case 'int8':
    case 'uint8':
    case 'bool':
      return Uint8Array.from(values);
    default:
      return dtype satisfies never;
  }
}

function bytesOf(array: Float32Array | Int32Array | BigInt64Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** The `to` attribute of a Cast node. */
export const castTarget = (dtype: OnnxType): OnnxAttribute => ({ int: onnxTypes[dtype] });
