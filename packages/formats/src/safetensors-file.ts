// Reading one safetensors file: the header at once, each tensor's bytes when it is touched.
import { LowbitError, lazyTensor, type Tensor } from '@lowbit/core';
import { located } from './located-error.js';
import { readRange, readUnchanged, withFile } from './read-file.js';
import { PREFIX_BYTES, parseHeader, parseHeaderLength, type SafetensorsEntry, type SafetensorsHeader } from './safetensors-header.js';
import { codecs, isStoredDType } from './stored-dtype.js';

/** An open safetensors file. No file handle is held. */
export interface SafetensorsFile extends SafetensorsHeader {
  readonly path: string;
  /**
   * A tensor as a lazy leaf: F32, F16 and BF16 as float32, I64 and I32 as int32, I8, U8 and BOOL as they are.
   * @throws TENSOR_MISSING, SAFETENSORS_DTYPE. Reading it throws FILE_CHANGED when the file is another one by then, and
   * TENSOR_VALUE when an int64 does not fit int32.
   */
  tensor(name: string): Tensor;
  /** The stored bytes of a tensor. @throws TENSOR_MISSING */
  bytes(name: string): Promise<Uint8Array<ArrayBuffer>>;
}

/**
 * Opens a safetensors file: reads and checks its header, and no tensor.
 * @throws SAFETENSORS_HEADER, SAFETENSORS_TENSOR, FILE_MISSING and the like, naming the file, the tensor and what is wrong.
 */
export function openSafetensors(path: string): Promise<SafetensorsFile> {
  return withFile(path, async (handle, identity) => {
    const prefix = await readRange(handle, path, 0, Math.min(PREFIX_BYTES, identity.size));
    const length = parseHeaderLength(prefix, identity.size, path);
    const dataStart = PREFIX_BYTES + length;
    const header = parseHeader(await readRange(handle, path, PREFIX_BYTES, length), identity.size - dataStart, path);
    return safetensorsFile(path, header, ({ start, end }) => readUnchanged(path, identity, dataStart + start, end - start));
  });
}

/** What a safetensors file begins with. */
export interface FileHeader {
  /** Its first bytes: 8 of the header's length, and the header. */
  readonly bytes: Uint8Array;
  /** Bytes of the whole file. */
  readonly size: number;
}

/**
 * A safetensors file of which there is the header alone, which is checked as if it were read from the file. Its tensors have shapes and types.
 * @throws SAFETENSORS_HEADER, SAFETENSORS_TENSOR. Reading a tensor throws WEIGHTS_ABSENT.
 */
export function describeSafetensors(path: string, { bytes, size }: FileHeader): SafetensorsFile {
  const dataStart = PREFIX_BYTES + parseHeaderLength(bytes.subarray(0, PREFIX_BYTES), size, path);
  const header = parseHeader(bytes.subarray(PREFIX_BYTES, dataStart), size - dataStart, path);
  return safetensorsFile(path, header, () => {
    throw new LowbitError('WEIGHTS_ABSENT', `${path}: is not here, only its header is; fetch the file before its tensors are read`);
  });
}

type ReadEntry = (entry: SafetensorsEntry) => Promise<Uint8Array<ArrayBuffer>>;

function safetensorsFile(path: string, header: SafetensorsHeader, readEntry: ReadEntry): SafetensorsFile {
  const entryOf = (name: string): SafetensorsEntry => {
    const entry = header.entries.get(name);
    if (!entry) throw missingTensor(path, name, header.entries.keys());
    return entry;
  };
  return {
    ...header,
    path,
    bytes: async (name) => readEntry(entryOf(name)),
    tensor(name) {
      const entry = entryOf(name);
      const { dtype } = entry;
      if (!isStoredDType(dtype)) {
        throw new LowbitError(
          'SAFETENSORS_DTYPE',
          `${path}: tensor '${name}' has dtype ${dtype}; readable are ${Object.keys(codecs).join(', ')}. Convert the checkpoint first`,
        );
      }
      return lazyTensor(entry.shape, codecs[dtype].dtype, () =>
        located(`${path}: tensor '${name}'`, async () => codecs[dtype].decode(await readEntry(entry))),
      );
    },
  };
}

/** The first names of a list, for a message. */
export const listed = (names: readonly string[]): string =>
  names.length === 0 ? 'none' : names.slice(0, 8).join(', ') + (names.length > 8 ? ` and ${names.length - 8} more` : '');

export const missingTensor = (path: string, name: string, known: Iterable<string>): LowbitError =>
  new LowbitError('TENSOR_MISSING', `${path}: has no tensor '${name}'; it has ${listed([...known])}`);
