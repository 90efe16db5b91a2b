// The strategy's facts from a model: recipes are run and judged, and parts are quantized one at a time.
import {
  type Backend,
  type Block,
  DenseLinear,
  LowbitError,
  type Model,
  quantizablePart,
  type Recipe,
  type StepReference,
} from '@lowbit/core';
import { type TokenWindows, windowsOf } from '@lowbit/data';
import { measureSize, textEvaluator } from '@lowbit/eval';
import { canBeginAfter, checkRecipe, quantize } from '@lowbit/pipeline';
import { linearKinds } from '@lowbit/quant';
import { firstWindows } from '../first-windows.js';
import type { ResolvedModel } from '../model-reference.js';
import { nearestRounding } from '../nearest-rounding.js';
import type { BenchProgress } from '../outcome.js';
import { needsData } from '../recipe.js';
import { type CalibrationText, calibrationText, type HeldOutSize, heldOutText, type TextSize, type TextSource } from '../texts.js';
import type { ModelPart, PartDamage, Workbench } from './strategy.js';
import { type Threshold, valueOf } from './threshold.js';

/** What is quantized at a time to see what it does, and trained or left as it is. */
export type PartKind = 'linear' | 'block';

export interface WorkbenchOptions {
  readonly resolved: ResolvedModel;
  readonly backend: Backend;
  readonly threshold: Threshold;
  readonly parts: PartKind;
  /** Text of the kind the model was trained on by default. */
  readonly calibration: TextSize & { readonly source?: TextSource | undefined };
  readonly heldOut: HeldOutSize & { readonly source?: TextSource | undefined };
  /** Of calibration text and of every draw of a run. */
  readonly seed: number;
  readonly buildRecipe: (steps: readonly StepReference[]) => Promise<Recipe>;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: BenchProgress) => void) | undefined;
}

/** Enough to tell parts apart: KL divergences to one dense model on equal windows differ by less than they vary. */
const DAMAGE_WINDOWS = 8;

/**
 * Recipes are judged on held-out text, those that are good enough on as much of it again, and parts on calibration text, so that what is
 * trained is not chosen by what it is judged by.
 * @throws HELD_OUT_SHORT for a text of fewer than four windows, and what preparing held-out text throws, before anything is quantized.
 */
export async function openWorkbench(options: WorkbenchOptions): Promise<Workbench<Model>> {
  const { resolved, backend, threshold, seed, signal, onProgress } = options;
  const { name, model: dense, text } = resolved;
  const stage =
    (what: string, path = name) =>
    (done: number, total: number): void =>
      onProgress?.({ type: 'stage', stage: what, path, done, total });
  const note = (words: string): void => onProgress?.({ type: 'note', text: words });

  const { heldOut } = options;
  // As in a benchmark, the text to judge by does not depend on the seed.
  const both = await heldOutText(
    heldOut.source ?? text,
    { ...heldOut, windows: 2 * heldOut.windows },
    {
      ...{ ...resolved, backend, seed: 0, signal },
      progress: stage('held-out text'),
    },
  );
  const [windows, fresh] = splitInTwo(both, heldOut.windows);
  note(`judged on ${windows.description}, ${windows.scoredTokens} tokens scored; what is good enough also on ${fresh.count} windows more`);
  const evaluator = textEvaluator(windows);
  const confirming = textEvaluator(fresh);

  let prepared: CalibrationText | undefined;
  const calibration = async (): Promise<CalibrationText> => {
    if (prepared) return prepared;
    const source = options.calibration.source ?? text;
    prepared = await calibrationText(source, options.calibration, {
      ...resolved,
      backend,
      seed,
      signal,
      progress: stage('calibration text'),
    });
    note(`calibrated on ${prepared.report}`);
    return prepared;
  };

  return {
    async attempt({ name: recipeName, steps }, beginning) {
      const recipe = await options.buildRecipe(steps);
      // Calibration text may take minutes to write.
      checkRecipe(recipe, dense);
      const data = needsData(recipe) ? await calibration() : undefined;
      const done = beginning && canBeginAfter(recipe, beginning.steps) ? { steps: beginning.steps, model: beginning.made } : undefined;
      const { model, milliseconds } = await quantize({
        ...{ model: dense, backend, recipe, seed, signal, kinds: linearKinds, nearest: nearestRounding(backend) },
        ...{ calibration: data?.batches, done },
        onEvent: (event) => onProgress?.({ type: 'run', recipe: recipeName, event }),
      });
      const progress = stage('judging', recipeName);
      const scores = await evaluator.evaluate(model, { backend, reference: dense, signal, progress });
      const { bitsPerWeight } = measureSize(model, { reference: dense });
      const seconds = milliseconds / 1000 + (beginning && done ? beginning.seconds : 0);
      return { made: model, bitsPerWeight, ...valueOf(threshold, scores), seconds };
    },

    async confirm(model) {
      const scores = await confirming.evaluate(model, { backend, reference: dense, signal, progress: stage('judging again') });
      return valueOf(threshold, scores);
    },

    parts: (quantized) => partsOf(quantized, options.parts),

    async damages(quantized) {
      const some = textEvaluator(await firstWindows(await calibration(), DAMAGE_WINDOWS));
      const parts = partsOf(quantized, options.parts);
      const found: PartDamage[] = [];
      for (const [i, part] of parts.entries()) {
        stage('quantizing one part', part.path)(i, parts.length);
        const scores = await some.evaluate(withPart(dense, quantized, part), { backend, reference: dense, signal });
        const { path, targets, linears } = part;
        found.push({ path, targets, linears, kl: valueOf({ metric: 'kl', value: 0 }, scores).value });
      }
      return found;
    },
  };
}

/**
 * The first windows, at most `most`, and as many after them, two at least; all are scored from their second token on.
 * @throws HELD_OUT_SHORT
 */
export function splitInTwo({ tokens, count, length, description, protocol }: TokenWindows, most: number): [TokenWindows, TokenWindows] {
  if (count < 4) {
    // The standard error of one window is that between its tokens, which are alike: it would be too small.
    const remedy = 'two are to choose by and two to confirm by; give more text, or shorter windows with --window';
    throw new LowbitError('HELD_OUT_SHORT', `${description}: is ${count === 1 ? 'one window' : `${count} windows`}, and ${remedy}`);
  }
  const half = Math.min(most, Math.ceil(count / 2));
  const part = (what: string, from: number, to: number): TokenWindows => {
    const rows = Array.from({ length: to - from }, (_, i) => tokens.slice((from + i) * length, (from + i + 1) * length));
    return windowsOf(rows, { description: `${description}, the ${what} ${rows.length}`, protocol });
  };
  return [part('first', 0, half), part('next', half, Math.min(count, 2 * half))];
}

/** A part with its place in the model. */
interface PlacedPart extends ModelPart {
  readonly block: number;
  /** Name of the Linear; undefined for a whole block. */
  readonly linear?: string;
}

/** Parts with a quantized Linear, in the order of computation. */
export function partsOf(quantized: Model, kind: PartKind): PlacedPart[] {
  return quantized.blocks.flatMap((block, index) => {
    const names = Object.keys(block.linears).filter((name) => isQuantized(block, name));
    const linears = names.map((name) => `${block.path}.${name}`);
    if (kind === 'linear') return linears.map((path, i) => ({ path, targets: [path], linears: [path], block: index, linear: names[i] }));
    if (names.length === 0) return [];
    const isWhole = names.length === Object.keys(block.linears).length;
    return [{ path: block.path, targets: isWhole ? [`${block.path}.**`] : linears, linears, block: index }];
  });
}

/** The dense model with a part taken from the quantized one; a block comes with its norms, which a method may have trained for it. */
function withPart(dense: Model, quantized: Model, { block, linear }: PlacedPart): Model {
  const own = quantized.blocks[block];
  return dense.withBlock(block, linear === undefined ? own : dense.blocks[block].with({ linears: { [linear]: own.linears[linear] } }));
}

function isQuantized({ linears }: Block, name: string): boolean {
  return !(quantizablePart(linears[name]).linear instanceof DenseLinear);
}
