// @lowbit/train: optimizers as graphs, learning rate schedules, and the training loop that methods share.
export { type AdamOptions, adam } from './adam.js';
export { type Distance, type DistillationRequest, distances, distillationLoss, teacherConfidence } from './distillation.js';
export { inMemory } from './in-memory.js';
export { type CosineOptions, constantRate, cosineRate, type LearningRate, warmupRate } from './learning-rate.js';
export { type Indexed, type LossFunction, type LossGradients, meanLoss, type StagedLoss, type StagedValue } from './loss.js';
export {
  lastHidden,
  type ModelGradients,
  type ModelLoss,
  type ModelLossRequest,
  modelGradients,
  modelLoss,
  type PositionsLoss,
  type PositionsTerms,
} from './model-gradients.js';
export type { GradientOptions, NamedTensors, Optimizer, OptimizerState, OptimizerUpdate } from './optimizer.js';
export { type RateOutcome, type RateSearch, type RateSearchResult, type Resumption, searchRates } from './rate-search.js';
export { type ParameterUnit, reparameterized } from './reparameterized.js';
export { type SgdOptions, sgd } from './sgd.js';
export { splitWindows, type WindowSplit } from './split-windows.js';
export { type StepFigures, type StepRequest, type StepResult, trainStep } from './step.js';
export { Stopwatch } from './stopwatch.js';
export { gatherWindows, windowCount } from './stream-windows.js';
export { calibrationTask, type TaskBatch, taskBatches, taskTraining } from './task-batches.js';
export { judgeTask, type TaskResult, taskJudgement, taskLoss } from './task-loss.js';
export { type EpochReport, type TrainOptions, type TrainResult, train, type Validation } from './train.js';
export { type TrainingCourse, trainingCost } from './training-cost.js';
export { nextTokenLoss, type PositionWeights, positionWeights, stagedTaskLoss, type WindowLossRequest, windowLoss } from './window-loss.js';
export {
  planRounds,
  type Rounds,
  readWindows,
  type TrainingBatches,
  trainingBatches,
  type WindowBatch,
  type Windows,
  windowBatches,
} from './windows.js';
export { withParameters } from './with-parameters.js';
