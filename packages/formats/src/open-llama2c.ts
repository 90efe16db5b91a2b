// Opens a llama2.c checkpoint (legacy model.bin, tokenizer.bin) as if it were a Hugging Face one.
import type { FileHandle } from 'node:fs/promises';
import { LowbitError, lazyTensor } from '@lowbit/core';
import type { Checkpoint, SideFile, TokenizerFiles } from './checkpoint.js';
import { llamaTokenizer, parseTokenizerBin } from './llama2c-tokenizer.js';
import {
  deinterleaveRows,
  HEADER_BYTES,
  type Llama2cConfig,
  type Llama2cTensor,
  llama2cHuggingFaceConfig,
  llama2cTensors,
  parseLlama2cHeader,
} from './llama2c-weights.js';
import { type FileIdentity, readRange, readUnchanged, SMALL_FILE_BYTES, withFile } from './read-file.js';
import { missingTensor } from './safetensors-file.js';

/** A range of bytes of a file; all of it unless told otherwise. */
export interface FileRange {
  readonly path: string;
  readonly offset?: number | undefined;
  readonly length?: number | undefined;
}

export interface Llama2cFiles extends FileRange {
  /** tokenizer.bin. Without it the checkpoint has no tokenizer. */
  readonly tokenizer?: FileRange | undefined;
}

/**
 * Opens a llama2.c checkpoint with Hugging Face names and config. Tensors are read from the file when they are touched; rows of q
 * and k come in Hugging Face's rotary order. The tokenizer becomes a tokenizer.json with the same ids.
 * @throws LLAMA2C_HEADER, TOKENIZER_BIN, FILE_RANGE, FILE_MISSING and the like.
 */
export async function openLlama2c(files: Llama2cFiles): Promise<Checkpoint> {
  const { path } = files;
  const { config, identity, floats } = await inRange(files, async (handle, { offset, length }, identity) => {
    const header = await readRange(handle, path, offset, Math.min(HEADER_BYTES, length));
    return { config: parseLlama2cHeader(header, length, path), identity, floats: offset + HEADER_BYTES };
  });
  const tensors = llama2cTensors(config);
  const found = (name: string): Llama2cTensor => {
    const tensor = tensors.get(name);
    if (!tensor) throw missingTensor(path, name, tensors.keys());
    return tensor;
  };
  const tokenizer = files.tokenizer && (await readTokenizerBin(files.tokenizer, config));
  return {
    path,
    config: llama2cHuggingFaceConfig(config),
    entries: new Map([...tensors].map(([name, { shape }]) => [name, { shape, dtype: 'F32' }])),
    tensor(name) {
      const { shape, start, interleavedHeads } = found(name);
      const size = shape.reduce((product, n) => product * n, 1);
      return lazyTensor(shape, 'float32', async () => {
        const { buffer } = await readUnchanged(path, identity, floats + 4 * start, 4 * size);
        const values = new Float32Array(buffer);
        return interleavedHeads ? deinterleaveRows(values, interleavedHeads, shape[1]) : values;
      });
    },
    storedBits(name) {
      found(name);
      return 32;
    },
    linears: new Map(),
    tokenizer: async () => tokenizer?.(),
    sideFiles: tokenizer ? tokenizerSideFiles(tokenizer) : new Map(),
    provenance: {},
  };
}

/** Reads and checks a tokenizer.bin; its tokenizer.json is worked out when it is asked for. */
async function readTokenizerBin(file: FileRange, { vocabularySize, contextLength }: Llama2cConfig): Promise<() => TokenizerFiles> {
  const pieces = await inRange(file, async (handle, { offset, length }) => {
    if (length > SMALL_FILE_BYTES)
      throw new LowbitError('TOKENIZER_BIN', `${file.path}: a tokenizer.bin of ${length} bytes is none; check offset and length`);
    return parseTokenizerBin(await readRange(handle, file.path, offset, length), vocabularySize, file.path);
  });
  return () => llamaTokenizer(pieces, contextLength, file.path);
}

const tokenizerSideFiles = (tokenizer: () => TokenizerFiles): ReadonlyMap<string, SideFile> => {
  const json = (value: unknown) => Buffer.from(`${JSON.stringify(value)}\n`);
  return new Map([
    ['tokenizer.json', { read: async () => json(tokenizer().tokenizer) }],
    ['tokenizer_config.json', { read: async () => json(tokenizer().config) }],
  ]);
};

/** Opens a file and checks that it has the range. @throws FILE_RANGE */
function inRange<T>(
  { path, offset = 0, length }: FileRange,
  use: (handle: FileHandle, range: { offset: number; length: number }, identity: FileIdentity) => Promise<T>,
): Promise<T> {
  return withFile(path, (handle, identity) => {
    const range = { offset, length: length ?? identity.size - offset };
    if (!(offset >= 0 && range.length >= 0 && offset + range.length <= identity.size)) {
      throw new LowbitError(
        'FILE_RANGE',
        `${path}: has ${identity.size} bytes; ${range.length} bytes from ${offset} on lie outside, check offset and length`,
      );
    }
    return use(handle, range, identity);
  });
}
