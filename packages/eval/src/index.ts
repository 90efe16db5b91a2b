// @lowbit/eval: evaluators that store their protocol with every number.
export { layerErrorEvaluator } from './layer-error.js';
export {
  diskEvaluator,
  type LinearSize,
  type ModelSize,
  type ModelSizeOptions,
  measureDisk,
  measureSize,
  sizeEvaluator,
} from './model-size.js';
export { type Protocol, type ProtocolName, protocols, windowsByProtocol } from './protocols.js';
export { type Estimate, exponentiate, meanPerToken, type WindowSums } from './ratio.js';
export { type TaskEvaluatorOptions, taskEvaluator } from './task-evaluator.js';
export { type TextEvaluatorOptions, textEvaluator } from './text-evaluator.js';
