// Which steps a task is for, and whether it fits a model.
import { type FinetuneAim, type FinetuneTask, LowbitError, type Model, type Recipe, type Step } from '@lowbit/core';

/** What the finetune of a step is after; undefined for a step without one. */
export function aimOf({ method: { aim = 'reference', finetune }, options }: Step): FinetuneAim | undefined {
  return finetune && (typeof aim === 'function' ? aim(options) : aim);
}

/** Whether the finetune of a step takes a task. */
export function aimsAtTask(step: Step): boolean {
  return aimOf(step) === 'task';
}

/**
 * Throws what is wrong with a task for a recipe and a model.
 * @throws TASK_UNUSED when no step is tuned for it; TASK_MODEL when the model cannot read its examples.
 */
export function checkTask(recipe: Recipe, task: FinetuneTask, { config }: Model): void {
  if (!recipe.some(aimsAtTask)) {
    const names = recipe.map(({ method }) => method.name).join(', ');
    throw new LowbitError(
      'TASK_UNUSED',
      `${task.description}: no step of the recipe (${names}) is tuned for a task; add one or leave the task out`,
    );
  }
  const { length } = task.train;
  if (length > config.contextLength) {
    const context = `the model's context of ${config.contextLength}`;
    throw new LowbitError('TASK_MODEL', `${task.description}: examples of ${length} tokens exceed ${context}; build it with shorter ones`);
  }
  const highest = [task.train, task.dev].flatMap(({ tokens }) => tokens.reduce((a, b) => Math.max(a, b), 0));
  if (Math.max(...highest) >= config.vocabularySize) {
    const vocabulary = `the model's vocabulary of ${config.vocabularySize}`;
    throw new LowbitError(
      'TASK_MODEL',
      `${task.description}: token ${Math.max(...highest)} is outside ${vocabulary}; use the model's own tokenizer`,
    );
  }
}
