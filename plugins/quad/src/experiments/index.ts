// What `lowbit reproduce quad/<name>` runs.
import type { Experiment } from '@lowbit/core';
import { basis } from './basis.js';
import { clip } from './clip.js';
import { parts } from './parts.js';
import { ranks } from './ranks.js';
import { table } from './table.js';

export const experiments: readonly Experiment[] = [table, ranks, basis, parts, clip];
