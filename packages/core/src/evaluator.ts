// Judging a model: versioned scores that carry the protocol they were measured by.
import type { Backend } from './backend.js';
import type { Model } from './model.js';

/** One number and how it was obtained. */
export interface Score {
  /** 'perplexity', 'kl', 'top1-agreement', … */
  readonly evaluator: string;
  /** Raised when equal inputs give another value. */
  readonly version: number;
  readonly value: number;
  /** Standard error of the value; 0 for exact quantities, NaN where it is not known. */
  readonly stderr: number;
  /** Samples (scored tokens, questions, layers) behind the value. */
  readonly samples: number;
  readonly higherIsBetter: boolean;
  /** The value of each part where the score is made of parts: of each Linear by its path. */
  readonly parts?: Readonly<Record<string, number>>;
  /**
   * Of a score of a text: what each of its windows makes it, in their order. Their mean is `value` and the standard error of that `stderr`, so that two
   * models judged on one text compare by the differences, which are much less uncertain than either.
   */
  readonly byWindow?: readonly number[];
  /** Dataset hash, split, window, stride, …: everything a reader needs to compare it with another number. */
  readonly protocol: Readonly<Record<string, unknown>>;
}

export interface EvaluationContext {
  readonly backend: Backend;
  /** The dense model, for scores that compare with it. */
  readonly reference?: Model | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly progress?: ((done: number, total: number) => void) | undefined;
}

export interface Evaluator {
  readonly name: string;
  readonly version: number;
  evaluate(model: Model, context: EvaluationContext): Promise<readonly Score[]>;
}
