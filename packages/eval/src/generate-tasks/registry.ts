// The generation tasks, by the names that EleutherAI's lm-evaluation-harness has for them.
import { gsm8k } from './gsm8k.js';
import { humaneval } from './humaneval.js';
import type { GenerationTask } from './task.js';

export const generationTasks: ReadonlyMap<string, GenerationTask> = new Map([gsm8k, humaneval].map((task) => [task.name, task]));
