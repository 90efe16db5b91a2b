// What is compared: the stream rotated, and with its outlier directions apart and the rest rotated by the same matrix.
import type { Backend, Rng } from '@lowbit/core';
import { hadamardOrFallback, noRotation } from '../isometry/axis-rotation.js';
import { Isometry } from '../isometry/isometry.js';
import { reflections } from '../isometry/reflections.js';

/** Isometries of a stream. */
export interface StreamIsometries {
  /** x H, without outliers (QuaRot, arXiv 2404.00456). */
  readonly rotated: Isometry;
  /** [x P | (x − x P Pᵀ) H] (QUAD, arXiv 2503.19353). */
  readonly decomposed: Isometry;
}

/** Of orthonormal outlier directions P [width, rank], with H a Hadamard matrix with random signs. */
export async function streamIsometries(backend: Backend, columns: Float32Array, width: number, rng: Rng): Promise<StreamIsometries> {
  const rank = columns.length / width;
  const rotation = await hadamardOrFallback(width, { backend, fallback: 'block-diagonal', rng, hasSigns: true });
  const outliers = { reflections: reflections(columns, width, rank), rotation: noRotation(rank) };
  const parts = { layout: 'expand', width, rotation } as const;
  return { rotated: new Isometry({ ...parts, outliers: undefined }), decomposed: new Isometry({ ...parts, outliers }) };
}
