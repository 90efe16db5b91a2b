// HellaSwag: which of four endings continues what happens (arXiv 1905.07830).
import type { DataRecord } from '@lowbit/data';
import { capitalize, strip } from './python-text.js';
import { type ChoiceTask, choose, labelOf, textOf, textsOf } from './task.js';

/** Without the marks that the part from WikiHow has in brackets. */
function clean(text: string): string {
  return strip(text)
    .replaceAll(' [title]', '. ')
    .replaceAll(/\[[^\n]*?\]/g, '')
    .replaceAll('  ', ' ');
}

function promptOf(record: DataRecord): string {
  return clean(`${textOf(record, 'activity_label')}: ${textOf(record, 'ctx_a')} ${capitalize(textOf(record, 'ctx_b'))}`);
}

export const hellaswag: ChoiceTask = {
  name: 'hellaswag',
  version: 1,
  split: 'validation',
  metrics: ['acc', 'acc_norm'],
  question(record) {
    const endings = textsOf(record, 'endings').map(clean);
    return choose(promptOf(record), endings, labelOf(record, 'label', endings.length));
  },
  document(record) {
    const { prompts, endings, gold } = this.question(record);
    return { ...record.value, query: prompts[0], choices: endings, gold };
  },
};
