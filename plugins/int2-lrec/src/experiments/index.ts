// What `lowbit reproduce int2-lrec/<name>` runs.
import type { Experiment } from '@lowbit/core';
import { generate } from './generate.js';
import { initializers } from './initializers.js';
import { losses } from './losses.js';
import { ranks } from './ranks.js';
import { recovery } from './recovery.js';
import { table } from './table.js';
import { tableMemory } from './table-memory.js';
import { transfer } from './transfer.js';

export const experiments: readonly Experiment[] = [table, initializers, ranks, losses, transfer, recovery, generate, tableMemory];
