// What a model is fine-tuned on besides calibration windows: examples of which some tokens are to be predicted.

/** Examples of one length. */
export interface TaskExamples {
  readonly count: number;
  /** Tokens of each, padding at its end included. */
  readonly length: number;
  /** [count, length], row-major. */
  readonly tokens: Int32Array;
  /** [count, length]: weight in the loss of predicting token t + 1 at t; 0 at the last token and wherever nothing is to be predicted. */
  readonly weights: Float32Array;
}

/**
 * A task: what to train on and what to judge by. Its loss is the mean cross-entropy of the weighted tokens, in nats; where there are
 * candidates, over their logits alone (label words, as in MeZO, arXiv 2305.17333), else over the vocabulary.
 */
export interface FinetuneTask {
  /** Where it came from: 'sst2.tsv, 2 labels, 1000 train and 200 dev examples of 64 tokens'. */
  readonly description: string;
  /** sha256 over tokens, weights and candidates of both parts. */
  readonly hash: string;
  /** Tokens of the label words: all that can be predicted are these, and every weighted position predicts one of them. */
  readonly candidates?: Int32Array | undefined;
  readonly train: TaskExamples;
  /** As long as those of `train`, so that both share programs. */
  readonly dev: TaskExamples;
  /** Template, labels, split and digests: what a reader of a score needs to build the same task. */
  readonly protocol: Readonly<Record<string, unknown>>;
}
