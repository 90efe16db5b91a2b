// The header of a safetensors file: parsed with every claim checked, and built. No file access.
// Layout: u64 header length N, N bytes of JSON, data. https://github.com/huggingface/safetensors#format
import { LowbitError } from '@lowbit/core';
import { duplicateKey } from './duplicate-key.js';
import { decodeText } from './read-file.js';
import { storedBytes } from './stored-dtype.js';

/**
 * Longest header that is accepted, the same cap as the reference implementation's: room for half a million tensors, and a
 * file of garbage cannot make the reader allocate more.
 */
export const MAX_HEADER_BYTES = 100_000_000;

/** Bytes before the JSON: its length as a little-endian u64. */
export const PREFIX_BYTES = 8;

/** One tensor of a file. */
export interface SafetensorsEntry {
  readonly shape: readonly number[];
  /** As the file names it: 'F32', 'BF16', … */
  readonly dtype: string;
  /** Bytes [start, end) of the data section. */
  readonly start: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>;
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
}

/**
 * The header's length from the first 8 bytes of a file of `fileSize` bytes.
 * @throws SAFETENSORS_HEADER when it cannot be one.
 */
export function parseHeaderLength(prefix: Uint8Array, fileSize: number, file: string): number {
  if (prefix.length < PREFIX_BYTES) throw headerError(file, `has ${fileSize} bytes, too few for a safetensors file; fetch it again`);
  const view = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (length < 2 || length > MAX_HEADER_BYTES) {
    throw headerError(
      file,
      `its header claims ${length} bytes, outside 2 to ${MAX_HEADER_BYTES}; it is not a safetensors file, or damaged`,
    );
  }
  if (PREFIX_BYTES + length > fileSize) {
    throw headerError(file, `its header claims ${length} bytes and the file has ${fileSize}; it is truncated or damaged, fetch it again`);
  }
  return length;
}

/**
 * The header's JSON, checked against the size of the data section that follows.
 * @throws SAFETENSORS_HEADER for a malformed header, SAFETENSORS_TENSOR for a false claim about one tensor.
 */
export function parseHeader(json: Uint8Array, dataBytes: number, file: string): SafetensorsHeader {
  const text = decodeText(json);
  if (text === undefined || !text.startsWith('{'))
    throw headerError(file, 'its header is not a JSON object in UTF-8; it is not a safetensors file, or damaged');
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw headerError(file, `its header is not JSON: ${(cause as Error).message}; fetch it again`, cause);
  }
  const duplicate = duplicateKey(text);
  if (duplicate !== undefined) throw headerError(file, `its header has '${duplicate}' twice; write it again with distinct names`);

  const entries = new Map<string, SafetensorsEntry>();
  let metadata: ReadonlyMap<string, string> = new Map();
  for (const [name, value] of Object.entries(parsed as object)) {
    if (name === '__metadata__') metadata = parseMetadata(value, file);
    else entries.set(name, parseEntry(name, value, dataBytes, file));
  }
  requireContiguous(entries, dataBytes, file);
  return { metadata, entries };
}

function parseMetadata(value: unknown, file: string): ReadonlyMap<string, string> {
  if (!isObject(value)) throw headerError(file, '__metadata__ must be an object of strings; write the file again');
  const pairs = Object.entries(value);
  const wrong = pairs.find(([, text]) => typeof text !== 'string');
  if (wrong) throw headerError(file, `__metadata__ '${wrong[0]}' must be a string; write the file again`);
  return new Map(pairs as [string, string][]);
}

function parseEntry(name: string, value: unknown, dataBytes: number, file: string): SafetensorsEntry {
  const fail = (what: string) => tensorError(file, name, `${what}; the header is damaged, fetch the file again`);
  if (!isObject(value)) throw fail('must be an object with dtype, shape and data_offsets');
  const { dtype, shape, data_offsets: offsets } = value;
  const elementBytes = typeof dtype === 'string' ? storedBytes.get(dtype) : undefined;
  if (elementBytes === undefined) throw fail(`has dtype ${printed(dtype)}; known are ${[...storedBytes.keys()].join(', ')}`);
  if (!Array.isArray(shape) || !shape.every(isCount))
    throw fail(`has shape ${printed(shape)}, which is not a list of non-negative integers`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw fail(`has data_offsets ${printed(offsets)}, which are not two non-negative integers`);
  }
  const [start, end] = offsets as [number, number];
  if (start > end || end > dataBytes) {
    throw tensorError(
      file,
      name,
      `claims bytes ${start} to ${end} of ${dataBytes} bytes of data; the file is truncated or damaged, fetch it again`,
    );
  }
  // Each partial product is checked, so that a zero behind an absurd dimension does not hide it.
  let bytes: number = elementBytes;
  for (const dimension of shape as number[]) {
    bytes *= dimension;
    if (!Number.isSafeInteger(bytes)) throw fail(`has shape ${printed(shape)}, which is too large`);
  }
  if (bytes !== end - start)
    throw fail(`of shape ${printed(shape)} and dtype ${dtype as string} takes ${bytes} bytes; its data_offsets span ${end - start}`);
  return { shape: shape as number[], dtype: dtype as string, start, end };
}

// The format wants the data section covered exactly: no overlap, no hole, no rest.
function requireContiguous(entries: ReadonlyMap<string, SafetensorsEntry>, dataBytes: number, file: string): void {
  const inOrder = [...entries].sort(([, a], [, b]) => a.start - b.start || a.end - b.end);
  let covered = 0;
  for (const [name, { start, end }] of inOrder) {
    if (start !== covered) {
      throw tensorError(
        file,
        name,
        start < covered
          ? `begins at byte ${start}, inside the tensor before it, which ends at ${covered}; the file is damaged, fetch it again`
          : `begins at byte ${start}, leaving a hole after byte ${covered}; the file is damaged, fetch it again`,
      );
    }
    covered = end;
  }
  if (covered !== dataBytes)
    throw headerError(file, `its tensors take ${covered} bytes and ${dataBytes} follow the header; it is damaged, fetch it again`);
}

/**
 * Header bytes (length prefix, JSON, padding with spaces so that the data begins at a multiple of 8) for tensors that are
 * stored in the order given. Entry offsets must be contiguous from 0.
 */
export function buildHeader({ metadata, entries }: SafetensorsHeader): Uint8Array {
  const fields: [string, unknown][] = [...entries].map(([name, { dtype, shape, start, end }]) => [
    name,
    { dtype, shape, data_offsets: [start, end] },
  ]);
  if (metadata.size > 0) fields.unshift(['__metadata__', Object.fromEntries(metadata)]);
  const json = Buffer.from(JSON.stringify(Object.fromEntries(fields)));
  const length = Math.ceil(json.length / 8) * 8;
  const bytes = new Uint8Array(PREFIX_BYTES + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, PREFIX_BYTES);
  return bytes;
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0 && !Object.is(value, -0);

// A value from a file in a message: short and without recursion, whatever the file claims.
function printed(value: unknown): string {
  if (Array.isArray(value))
    return value.length > 8
      ? `a list of ${value.length}`
      : `[${value.map((item) => (isObject(item) || Array.isArray(item) ? '…' : printed(item))).join(', ')}]`;
  if (value === undefined) return 'none';
  if (isObject(value)) return 'an object';
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

const headerError = (file: string, what: string, cause?: unknown): LowbitError =>
  new LowbitError('SAFETENSORS_HEADER', `${file}: ${what}`, { cause });

const tensorError = (file: string, name: string, what: string): LowbitError =>
  new LowbitError('SAFETENSORS_TENSOR', `${file}: tensor ${printed(name)} ${what}`);
