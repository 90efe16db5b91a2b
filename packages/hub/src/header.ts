// How a safetensors file begins: its tensors with their shapes, without their bytes.
import { throwIfAborted } from '@lowbit/core';
import { altered, fileUrl, type RemoteFile } from './download.js';
import { networkError, type Question } from './errors.js';
import { ATTEMPTS, hubFetch, pause, type RequestOptions } from './request.js';

/** The beginning of a file that is not here. */
export interface FileHeader {
  /** Its first bytes: 8 that say how long the header is, and the header. Whether they are that is for those to check who read it. */
  readonly bytes: Uint8Array;
  /** Bytes of the whole file. */
  readonly size: number;
}

/** Bytes that are asked for at first: one request is enough for most files. */
const FIRST_BYTES = 2 ** 16;
const PREFIX_BYTES = 8;
/** A header that claims more is none: readers refuse it. */
const MAX_HEADER_BYTES = 100_000_000;

/**
 * Fetches the header of a safetensors file by ranges of its bytes. A part of a file has no hash that could be compared.
 * @throws HUB_CHECKSUM for a file that ends too early, and what `hubFetch` throws.
 */
export async function fetchHeader(question: Question, file: RemoteFile, options: RequestOptions): Promise<FileHeader> {
  const first = await firstBytes(question, file, FIRST_BYTES, options);
  const claimed = first.length < PREFIX_BYTES ? 0 : Number(new DataView(first.buffer, first.byteOffset).getBigUint64(0, true));
  const length = PREFIX_BYTES + (claimed > MAX_HEADER_BYTES ? 0 : claimed);
  const bytes = length <= first.length ? first : await firstBytes(question, file, length, options);
  // A copy: the rest of what came is let go.
  return { bytes: new Uint8Array(bytes.subarray(0, length)), size: file.size };
}

/** So many bytes, or all where there are fewer. */
async function firstBytes(question: Question, file: RemoteFile, most: number, options: RequestOptions): Promise<Uint8Array> {
  const count = Math.min(most, file.size);
  if (count === 0) return new Uint8Array();
  const request = hubFetch(question, options, false, file.path);
  for (let attempt = 1; ; attempt++) {
    const response = await request(fileUrl(question, file), {
      headers: { 'accept-encoding': 'identity', range: `bytes=0-${count - 1}` },
    });
    const chunks: Uint8Array[] = [];
    let received = 0;
    let broken: unknown;
    try {
      // A server that knows no ranges sends all of it: what is beyond is not waited for.
      for await (const chunk of response.body ?? []) {
        chunks.push(chunk);
        received += chunk.length;
        if (received >= count) break;
      }
    } catch (cause) {
      throwIfAborted(options.signal);
      broken = networkError(question, cause);
    }
    if (received >= count) return Buffer.concat(chunks).subarray(0, count);
    if (attempt >= ATTEMPTS) throw broken ?? altered(question, file, `came with ${received} bytes of ${count}`);
    await pause(attempt, options);
  }
}
