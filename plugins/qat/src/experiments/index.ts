// What `lowbit reproduce qat/<name>` runs.
import type { Experiment } from '@lowbit/core';
import { budget } from './budget.js';
import { gap } from './gap.js';
import { init } from './init.js';
import { loss } from './loss.js';
import { overfit } from './overfit.js';
import { pareto } from './pareto.js';
import { quantizer } from './quantizer.js';
import { stages } from './stages.js';

export const experiments: readonly Experiment[] = [gap, budget, overfit, loss, init, quantizer, stages, pareto];
