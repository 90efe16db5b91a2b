// The choice tasks, by the names that EleutherAI's lm-evaluation-harness has for them.
import { arcChallenge, arcEasy } from './arc.js';
import { boolq, copa, openbookqa, piqa, sciq, winogrande } from './commonsense.js';
import { cola, mnli, mnliMismatch, mrpc, qnli, qqp, rte, sst2, wnli } from './glue.js';
import { hellaswag } from './hellaswag.js';
import { lambadaOpenai, lambadaStandard } from './lambada.js';
import type { ChoiceTask } from './task.js';

const common = [arcEasy, arcChallenge, hellaswag, piqa, winogrande, boolq, lambadaOpenai, lambadaStandard, openbookqa, sciq, copa];
const glue = [sst2, cola, rte, wnli, mrpc, qqp, qnli, mnli, mnliMismatch];

export const choiceTasks: ReadonlyMap<string, ChoiceTask> = new Map([...common, ...glue].map((task) => [task.name, task]));
