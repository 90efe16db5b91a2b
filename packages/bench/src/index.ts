// @lowbit/bench: models by recipes by evaluators by seeds, as rows and tables.
export { type EvaluatorName, evaluatorName, evaluatorNames, evaluatorsOf, modelEvaluatorNames } from './evaluators.js';
export { modelNames, type ResolvedModel, resolveModel } from './model-reference.js';
export { nearestRounding } from './nearest-rounding.js';
export { type Preset, presetNames, presetOf } from './presets.js';
export { provenanceOf } from './provenance.js';
export { type ClosedGap, closedGaps } from './ranking.js';
export { type NamedRecipe, needsData, summarizeRecipe } from './recipe.js';
export { type BenchRow, type FailedRow, isScore, type Provenance, type ScoreRow } from './row.js';
export { type BenchOptions, type BenchProgress, runBenchmark } from './run.js';
export { didYouMean } from './suggestion.js';
export { markdownTable } from './table.js';
export { calibrationText, type HeldOutSize, heldOutText, type TextSize, type TextSource } from './texts.js';
