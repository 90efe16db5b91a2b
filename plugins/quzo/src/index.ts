// @lowbit/quzo: fine-tuning of quantized models by forward passes alone.
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
  QueryLosses,
  Scratch,
  Selector,
  SelectorInput,
  Stream,
  StreamKey,
  Update,
  Updater,
} from './hooks.js';
export { type QuzoInput, type QuzoOptions, quzoOptions } from './options.js';
