// What `lowbit reproduce qat/<name>` runs.
import type { Experiment } from '@lowbit/core';
import { budget } from './budget.js';
import { gap } from './gap.js';
import { init } from './init.js';
import { landscape } from './landscape.js';
import { loss } from './loss.js';
import { misalign } from './misalign.js';
import { overfit } from './overfit.js';
import { pareto } from './pareto.js';
import { plane } from './plane.js';
import { quantizer } from './quantizer.js';
import { radius } from './radius.js';
import { sensitivity } from './sensitivity.js';
import { stages } from './stages.js';

const recipes = [gap, budget, overfit, loss, init, quantizer, stages, pareto];
const studies = [misalign, landscape, plane, radius, sensitivity];

export const experiments: readonly Experiment[] = [...recipes, ...studies];
