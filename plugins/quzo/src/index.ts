// @lowbit/quzo: fine-tuning of quantized models by forward passes alone.
export { type Derivatives, derivativesOf } from './derivatives.js';
export { experiments } from './experiments/index.js';
export type {
  Applied,
  Direction,
  DirectionValues,
  Draws,
  Estimator,
  Hooks,
  Parameter,
  ParameterKind,
  ParameterSettings,
  Part,
  QueryLosses,
  Scratch,
  Selector,
  SelectorInput,
  Stream,
  StreamKey,
  Update,
  Updater,
} from './hooks.js';
export { type ReplayOptions, replayLog } from './log/replay.js';
export { LOG_FILE, parseLog, type RunLog } from './log/text.js';
export { parseTrajectory, type StepRecord, type Trajectory, type TrajectoryHeader } from './log/trajectory.js';
export { llamaShape, type ModelShape } from './memory-model.js';
export { quzo } from './method.js';
export { type QuzoInput, type QuzoOptions, quzoOptions } from './options.js';
export { type Plan, type PlannedParameter, planOf } from './perturbation/parameters.js';
export { openRun, type Run } from './run.js';
export { type StepMemory, type StepRun, stepMemory } from './run-memory.js';
export type { Slots } from './update/slots.js';
