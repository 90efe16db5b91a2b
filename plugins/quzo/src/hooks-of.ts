// The functions that options choose.
import { directionOf } from './direction/direction.js';
import { estimators } from './estimator/estimator.js';
import type { Hooks } from './hooks.js';
import type { QuzoOptions } from './options.js';
import { bySparsity } from './selector/selector.js';
import { updaterOf } from './update/updater.js';
import { variants } from './variants/index.js';

export function hooksOf(options: QuzoOptions): Hooks {
  const estimator = estimators[options.estimator];
  const { distribution } = options;
  const base: Hooks = {
    direction: directionOf({ distribution, isRounded: estimator.isRounded }),
    estimator,
    updater: updaterOf(options),
    selector: bySparsity,
  };
  return { ...base, ...variants[options.variant](options, base) };
}
