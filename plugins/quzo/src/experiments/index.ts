// What `lowbit reproduce quzo/<name>` runs.
import type { Experiment } from '@lowbit/core';
import { adaptation, adaptationOfStories } from './adaptation.js';
import { bias } from './bias.js';
import { curves } from './curves.js';
import { drift } from './drift.js';
import { memory } from './memory.js';
import { queries } from './queries.js';
import { rounding } from './rounding.js';
import { tableMemory } from './table-memory.js';
import { tinyTasks } from './tiny-tasks.js';
import { variants } from './variants.js';

export const experiments: readonly Experiment[] = [
  bias,
  drift,
  tableMemory,
  memory,
  adaptation,
  adaptationOfStories,
  rounding,
  queries,
  variants,
  curves,
  tinyTasks,
];
