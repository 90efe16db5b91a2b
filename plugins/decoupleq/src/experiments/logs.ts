// What the method logs, as the experiments read it back.
import type { ArmOutcome } from '@lowbit/core';
import { z } from 'zod';
import { mean } from './samples.js';

const layerRecord = z.object({
  /** Relative output error on the calibration rows, dampening included. */
  loss: z.number(),
  trace: z.array(z.object({ step: z.string(), loss: z.number(), accepted: z.number() })),
});

const blockRecord = z.object({
  /** Mean square error of the block's output, on the training windows. */
  blockLossBefore: z.number(),
  blockLossAfter: z.number(),
  /** On held-out windows; null where there are none. */
  blockHeldOutBefore: z.number().nullable(),
  blockHeldOutAfter: z.number().nullable(),
  learningRate: z.number(),
  epoch: z.number(),
});

export type LayerRecord = z.output<typeof layerRecord> & { readonly path: string };
export type BlockRecord = z.output<typeof blockRecord> & { readonly path: string };

/** One record for each Linear that decoupleQ quantized. */
export function layerRecords({ logs }: ArmOutcome): LayerRecord[] {
  return logs.filter(({ record }) => 'trace' in record).map(({ path, record }) => ({ path, ...layerRecord.parse(record) }));
}

/** One record for each block that decoupleQ trained. */
export function blockRecords({ logs }: ArmOutcome): BlockRecord[] {
  return logs.filter(({ record }) => 'blockLossBefore' in record).map(({ path, record }) => ({ path, ...blockRecord.parse(record) }));
}

/** Mean of what the Linears logged as `loss`, whichever the method; null where it logs none. */
export function meanLayerLoss({ logs }: ArmOutcome): number | null {
  const losses = logs.map(({ record }) => record['loss']).filter((loss) => typeof loss === 'number');
  return losses.length === 0 ? null : mean(losses);
}
