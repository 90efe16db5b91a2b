// A Linear's state as it is kept in a checkpoint: its tensors in safetensors under '<path>.<name>', the rest as JSON.
import { encodeFloat16, fitsFloat16, type LinearState, LowbitError, lazyTensor, read, readFloats, type Tensor } from '@lowbit/core';
import { packCodes, packedLength, unpackCodes } from '@lowbit/quant';
import { z } from 'zod';
import { located } from './located-error.js';
import { requireJson } from './require-json.js';
import type { SafetensorsFile } from './safetensors-file.js';
import { type StoredTensor, storedTensor } from './safetensors-write.js';

/** Linears wrap Linears (a correction over activation quantization over codes); a file that nests deeper is damaged. */
const MAX_WRAPPING = 8;

/** What the JSON says of one tensor beyond what safetensors knows. */
const tensorRecordSchema = z.object({
  /** Codes packed to `bits` each, a U8 stream; the shape is that of the codes. */
  packed: z.object({ bits: z.int().min(1).max(8), shape: z.array(z.int().nonnegative()) }).optional(),
  /** Float16 by the representation's own choice, which a later save repeats. */
  half: z.literal(true).optional(),
});

export interface LinearRecord {
  kind: string;
  attributes: Record<string, unknown>;
  tensors: Record<string, z.infer<typeof tensorRecordSchema>>;
  parts?: Record<string, LinearRecord> | undefined;
}

function recordSchema(depth: number): z.ZodType<LinearRecord> {
  const part: z.ZodType<LinearRecord> = depth > 1 ? recordSchema(depth - 1) : z.never();
  return z.object({
    kind: z.string(),
    attributes: z.record(z.string(), z.unknown()),
    tensors: z.record(z.string(), tensorRecordSchema),
    parts: z.record(z.string(), part).optional(),
  });
}

export const linearRecordSchema = recordSchema(MAX_WRAPPING);

/** The JSON half of a state. @throws NOT_JSON when an attribute is not. */
export function linearRecord(path: string, state: LinearState): LinearRecord {
  requireJson(state.attributes, `${path}: attributes`);
  const tensors = Object.entries(state.tensors).map(([name, { shape }]) => {
    const bits = state.packedBits?.[name];
    const half = state.half?.includes(name);
    return [name, { ...(bits !== undefined && { packed: { bits, shape: [...shape] } }), ...(half && { half: true as const }) }];
  });
  const parts = Object.entries(state.parts ?? {}).map(([name, part]) => [name, linearRecord(`${path}.${name}`, part)]);
  return {
    kind: state.kind,
    attributes: state.attributes,
    tensors: Object.fromEntries(tensors),
    ...(parts.length > 0 && { parts: Object.fromEntries(parts) }),
  };
}

/** A tensor of a state that has no storage rule of its own, with the bits per element that the state wants for it. */
export interface PlainTensor {
  readonly name: string;
  readonly tensor: Tensor;
  readonly bits: unknown;
}

/** The tensor half of a state: what the representation says how to store, and the rest. */
export function linearTensors(path: string, state: LinearState): { ruled: StoredTensor[]; plain: PlainTensor[] } {
  const ruled: StoredTensor[] = [];
  const plain: PlainTensor[] = [];
  for (const [key, tensor] of Object.entries(state.tensors)) {
    const name = `${path}.${key}`;
    const bits = state.packedBits?.[key];
    if (bits !== undefined) ruled.push(packedTensor(name, tensor, bits));
    else if (state.half?.includes(key)) ruled.push(halfTensor(name, tensor));
    else plain.push({ name, tensor, bits: state.attributes.bitsPerElement });
  }
  for (const [key, part] of Object.entries(state.parts ?? {})) {
    const inner = linearTensors(`${path}.${key}`, part);
    ruled.push(...inner.ruled);
    plain.push(...inner.plain);
  }
  return { ruled, plain };
}

function packedTensor(name: string, codes: Tensor, bits: number): StoredTensor {
  if (codes.dtype !== 'uint8')
    throw new LowbitError(
      'LINEAR_STATE',
      `${name}: packed tensors are uint8 codes, this one is ${codes.dtype}; the plugin that made it must say so`,
    );
  return {
    name,
    shape: [packedLength(codes.size, bits)],
    dtype: 'U8',
    bytes: () => located(name, async () => packCodes((await read(codes)) as Uint8Array, bits)),
  };
}

function halfTensor(name: string, values: Tensor): StoredTensor {
  return {
    ...storedTensor(name, values, 'F16'),
    bytes: () =>
      located(name, async () => {
        const floats = await readFloats(values);
        if (!fitsFloat16(floats)) {
          throw new LowbitError(
            'LINEAR_STATE',
            'is declared float16 and has values that float16 does not hold; the plugin that made it must round them or declare it otherwise',
          );
        }
        const { buffer } = encodeFloat16(floats);
        return new Uint8Array(buffer);
      }),
  };
}

/**
 * A state from its record, with lazy tensors out of the files that hold them.
 * @throws CHECKPOINT_LINEAR when a tensor is missing or is not stored as the record says.
 */
export function restoreState(path: string, record: LinearRecord, weights: ReadonlyMap<string, SafetensorsFile>): LinearState {
  const tensors: [string, Tensor][] = [];
  const packedBits: [string, number][] = [];
  const half: string[] = [];
  for (const [key, { packed, half: isHalf }] of Object.entries(record.tensors)) {
    const name = `${path}.${key}`;
    const file = weights.get(name);
    const entry = file?.entries.get(name);
    if (!file || !entry) throw linearError(path, `its tensor '${name}' is not in the checkpoint`);
    if (isHalf) {
      if (entry.dtype !== 'F16') throw linearError(path, `its tensor '${name}' must be F16 and is ${entry.dtype}`);
      half.push(key);
    }
    if (packed) packedBits.push([key, packed.bits]);
    tensors.push([key, packed ? unpacked(name, packed.shape, packed.bits, file, path) : file.tensor(name)]);
  }
  const parts = Object.entries(record.parts ?? {}).map(([key, part]) => [key, restoreState(`${path}.${key}`, part, weights)] as const);
  return {
    kind: record.kind,
    attributes: record.attributes,
    tensors: Object.fromEntries(tensors),
    ...(packedBits.length > 0 && { packedBits: Object.fromEntries(packedBits) }),
    ...(half.length > 0 && { half }),
    ...(parts.length > 0 && { parts: Object.fromEntries(parts) }),
  };
}

function unpacked(name: string, shape: readonly number[], bits: number, file: SafetensorsFile, path: string): Tensor {
  const size = shape.reduce((product, n) => product * n, 1);
  const stored = file.entries.get(name);
  if (stored?.dtype !== 'U8' || stored.end - stored.start !== packedLength(size, bits)) {
    throw linearError(path, `its tensor '${name}' must be the ${packedLength(size, bits)} bytes of ${size} codes of ${bits} bits`);
  }
  return lazyTensor(shape, 'uint8', async () => unpackCodes(await file.bytes(name), bits, size));
}

const linearError = (path: string, what: string): LowbitError =>
  new LowbitError('CHECKPOINT_LINEAR', `${path}: ${what}; config.json and weights are not of one save, or damaged`);
