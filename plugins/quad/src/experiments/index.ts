// What `lowbit reproduce quad/<name>` runs.
import type { Experiment } from '@lowbit/core';
import { activations } from './activations.js';
import { basis } from './basis.js';
import { clip } from './clip.js';
import { parts } from './parts.js';
import { peft } from './peft.js';
import { ranks } from './ranks.js';
import { spectrum } from './spectrum.js';
import { table } from './table.js';
import { weights } from './weights.js';

export const experiments: readonly Experiment[] = [table, ranks, basis, parts, clip, weights, peft, spectrum, activations];
