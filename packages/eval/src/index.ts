// @lowbit/eval: evaluators that store their protocol with every number.
export { type CodeLimits, codeLimits } from './generate-tasks/code/limits.js';
export { type CodeSandbox, openCodeSandbox } from './generate-tasks/code/sandbox.js';
export type { Verdict } from './generate-tasks/code/verdict.js';
export { type GenerationExamples, generationEvaluator, type JudgedAnswer } from './generate-tasks/generation-evaluator.js';
export { generationTasks } from './generate-tasks/registry.js';
export type { GenerationTask } from './generate-tasks/task.js';
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
export { meanOf } from './sample.js';
export { type TaskEvaluatorOptions, taskEvaluator } from './task-evaluator.js';
export { type ChoiceExamples, choiceEvaluator, type JudgedChoice, judgeChoices } from './tasks/choice-evaluator.js';
export type { Shots } from './tasks/few-shot.js';
export { type ChoiceMetric, measure, type Scored } from './tasks/metrics.js';
export { choiceTasks } from './tasks/registry.js';
export type { ChoiceTask, Question } from './tasks/task.js';
export { type TextEvaluatorOptions, textEvaluator } from './text-evaluator.js';
