// What `lowbit reproduce decoupleq/<name>` runs.
import type { Experiment } from '@lowbit/core';
import { blockwise } from './blockwise.js';
import { bruteforce } from './bruteforce.js';
import { calib } from './calib.js';
import { corr } from './corr.js';
import { iters } from './iters.js';
import { table } from './table.js';
import { trace } from './trace.js';
import { wstep } from './wstep.js';

export const experiments: readonly Experiment[] = [table, trace, iters, wstep, calib, blockwise, corr, bruteforce];
