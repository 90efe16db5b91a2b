// What training a model or its blocks takes, for the plans that methods give of their steps.
import type { Cost, Workload } from '@lowbit/core';
import { JUDGED } from './windows.js';

/** The course of a training, as far as it decides what it takes. */
export interface TrainingCourse {
  /** Passes over the windows that are trained on. */
  readonly epochs: number;
  /** Tokens trained on at most. */
  readonly maxTokens?: number | undefined;
  /** Windows in a step. */
  readonly batchWindows: number;
  /** Windows of a step that are computed together. Default: all of them, up to 8. */
  readonly windowsAtOnce?: number | undefined;
  /** Share of the windows that is held out and judged on; with 0, those that are trained on are. No more than 256 are judged on. */
  readonly holdOut: number;
  /** Judgements. Default: 10, the start and about eight rounds. */
  readonly judgements?: number;
  /** Trained elements. */
  readonly parameters: number;
  /** Values computed for each weight whenever the model is: dequantized, or rounded through. Default: 4. */
  readonly valuesAWeight?: number;
  /** A dense model answers beside it. */
  readonly hasTeacher: boolean;
  /** Blocks are trained one after another: in memory is one of them, and there are no logits. Default: the whole model is. */
  readonly oneByOne?: boolean;
}

/** Forward and, twice as much, backward. */
const PASSES = 3;

/** Values of an update for each trained element: gradient, moments, rounding as it is stored. */
const UPDATE_VALUES = 16;

/** Float32 copies of each trained element: value, gradient, two moments, the best so far, the start, and those being made. */
const COPIES = 9;

/** Values for each logit on the way to a loss and back. */
const LOGIT_VALUES = 12;

/** Logits that exist at one time, as `modelGradients` cuts them; and values of their size at that time. */
const LOGITS_AT_ONCE = 2 ** 23;
const LOGIT_COPIES = 10;

/** Of a training with `course` on the windows of `work`. */
export function trainingCost(work: Workload<unknown>, course: TrainingCourse): Cost {
  const { windows, tokens, width, vocabularySize, weights, forward, blocks } = work;
  const { epochs, maxTokens = Infinity, batchWindows, holdOut, judgements = 10, parameters, valuesAWeight = 4 } = course;
  if (windows === 0) return { flops: 0, elements: 0, bytes: 0 };
  const heldOut = holdOut === 0 ? 0 : Math.max(1, Math.round(windows * holdOut));
  const trained = Math.min(epochs * Math.max(1, windows - heldOut), Math.max(1, maxTokens / tokens));
  const judged = judgements * Math.min(JUDGED, heldOut || windows);
  const atOnce = Math.min(course.windowsAtOnce ?? 8, batchWindows, windows);
  const { oneByOne = false } = course;
  const logits = oneByOne ? 0 : tokens * vocabularySize;
  const teacher = course.hasTeacher ? 1 : 0;
  const head = 2 * logits * width;
  // Windows' worth of passes, and how often the weights are gone through for them.
  const headPasses = trained * (PASSES + teacher) + judged * (1 + teacher);
  // Of a whole model, blocks are computed anew for their backward passes.
  const passes = headPasses + (oneByOne ? 0 : trained);
  return {
    flops: passes * forward.flops + headPasses * head,
    elements:
      passes * forward.elements +
      (trained + judged) * LOGIT_VALUES * logits +
      (passes / atOnce) * valuesAWeight * weights +
      (trained / batchWindows) * UPDATE_VALUES * parameters,
    bytes:
      (4 * COPIES * parameters) / (oneByOne ? Math.max(1, blocks) : 1) +
      4 * (oneByOne ? 2 : blocks + 2) * atOnce * tokens * width +
      // Of a pass and the passes back through it, and of logits: programs of an engine, each of which keeps its working memory.
      3 * atOnce * forward.bytes +
      4 * LOGIT_COPIES * Math.min(LOGITS_AT_ONCE, atOnce * logits),
  };
}
