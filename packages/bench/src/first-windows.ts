// The first windows of a calibration, to judge by.
import { read } from '@lowbit/core';
import { type TokenWindows, windowsOf } from '@lowbit/data';
import type { CalibrationText } from './texts.js';

/** At most `count` of them. */
export async function firstWindows({ batches }: CalibrationText, count: number): Promise<TokenWindows> {
  const rows: Int32Array[] = [];
  for (let i = 0; i < batches.length && rows.length < count; i++) {
    const batch = await batches.at(i);
    const tokens = (await read(batch)) as Int32Array;
    const length = batch.shape[1];
    for (let at = 0; at < tokens.length && rows.length < count; at += length) rows.push(tokens.slice(at, at + length));
  }
  return windowsOf(rows, { description: batches.description, protocol: { calibrationSha256: batches.hash } });
}
