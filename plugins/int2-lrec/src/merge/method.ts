// Adapters merged into the weights they stand beside: the last step before an export that knows no adapters.
import { defineMethod, type FinetuneContext, type Linear, type Model } from '@lowbit/core';
import { z } from 'zod';
import { type MergeErrors, mergeLinear } from './merge.js';

/** Schema of the method's options. */
export const mergeOptions = z.strictObject({
  requantize: z
    .boolean()
    .default(false)
    .describe(
      'Round the merged weight to codes as those below it; else it becomes a dense float16 weight. Most of a small adapter is lost',
    ),
});

/** As they are written in a recipe. */
export type MergeAdaptersInput = z.input<typeof mergeOptions>;
/** Parsed. */
export type MergeAdaptersOptions = z.output<typeof mergeOptions>;

/**
 * Merges every adapter, stacked ones too, into a dense weight of float16 precision; into codes only where `requantize` asks for it, with a
 * warning that says what was lost. Linears without adapters stay.
 */
export const mergeAdapters = defineMethod({
  name: 'merge-adapters',
  version: 1,
  description: 'Low-rank adapters merged into dense weights, or into codes where that is asked for',
  options: mergeOptions,
  // A finetune, though Linears are merged one by one: the runner then measures the divergence from the dense model before and after. It
  // costs memory: all merged weights are there at once.
  finetune: merge,
});

async function merge(given: Model, context: FinetuneContext<MergeAdaptersOptions>): Promise<Model> {
  const { backend, optionsFor, log, progress } = context;
  const total = given.blocks.reduce((count, { linears }) => count + Object.keys(linears).length, 0);
  const kept: string[] = [];
  const errors: MergeErrors[] = [];
  let merged = 0;
  let done = 0;
  let model = given;
  for (const [index, block] of given.blocks.entries()) {
    const linears: Record<string, Linear> = {};
    for (const [name, linear] of Object.entries(block.linears)) {
      const path = `${block.path}.${name}`;
      const options = optionsFor(path);
      if (options) {
        const made = await mergeLinear(backend, linear, options.requantize, path);
        if (made.isMerged) linears[name] = made.linear;
        if (made.isMerged) merged++;
        if (made.isKept) kept.push(path);
        if (made.errors) errors.push(made.errors);
      }
      progress(++done, total);
    }
    model = model.withBlock(index, block.with({ linears }));
  }
  const requantized = errors.length > 0 ? lossOf(errors) : undefined;
  log({ merged, kept: kept.length, requantized: errors.length, ...requantized });
  warnAbout(context, { merged, kept, requantized });
  return model;
}

interface Loss {
  /** ‖M − Ŵ‖ / ‖M‖ over all layers that were rounded again: what their adapters had changed. */
  readonly adapterShare: number;
  /** ‖M − Q(M)‖ / ‖M‖: what rounding has changed. */
  readonly roundingError: number;
}

function lossOf(errors: readonly MergeErrors[]): Loss {
  const sum = (key: keyof MergeErrors): number => errors.reduce((total, one) => total + one[key], 0);
  const relative = (key: 'adapters' | 'rounding'): number => (sum('merged') === 0 ? 0 : Math.sqrt(sum(key) / sum('merged')));
  return { adapterShare: relative('adapters'), roundingError: relative('rounding') };
}

interface Report {
  readonly merged: number;
  readonly kept: readonly string[];
  readonly requantized: Loss | undefined;
}

function warnAbout({ warn, calibration }: FinetuneContext<MergeAdaptersOptions>, { merged, kept, requantized }: Report): void {
  if (requantized) {
    const { adapterShare, roundingError } = requantized;
    const figures = `by ${percent(roundingError)}, where the adapters had changed them by ${percent(adapterShare)}`;
    // The runner measures it where there is data.
    const more = calibration.length > 0 ? 'the record has the divergence before and after' : 'calibration data would show the divergence';
    warn('MERGE_REQUANTIZED', `rounding changed the merged weights ${figures}; ${more}`);
  }
  if (kept.length > 0) {
    const why = 'its adapter reads the input before it is quantized';
    warn('MERGE_KEPT', `${kept.length} adapters stay beside their bases, the first of them at ${kept[0]}: ${why}`);
  }
  if (merged === 0 && kept.length === 0)
    warn('MERGE_NOTHING', 'no targeted Linear has an adapter; put this step after one that makes them');
}

function percent(share: number): string {
  return `${(100 * share).toPrecision(3)}%`;
}
