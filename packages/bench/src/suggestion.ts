// 'Did you mean …?' for names that a person typed.
import { distance } from 'fastest-levenshtein';

/** Names within two edits (one for words of up to three letters), the nearest first. */
export function nearestNames(name: string, known: readonly string[]): string[] {
  const allowed = name.length < 4 ? 1 : 2;
  return known
    .map((candidate) => ({ candidate, edits: distance(name.toLowerCase(), candidate.toLowerCase()) }))
    .filter(({ edits }) => edits <= allowed)
    .sort((a, b) => a.edits - b.edits)
    .map(({ candidate }) => candidate);
}

/** The tail of an error message about an unknown name: 'did you mean 'gptq'? known: gptq, rtn'. */
export function didYouMean(name: string, known: readonly string[]): string {
  const [nearest] = nearestNames(name, known);
  return `${nearest === undefined ? '' : `did you mean '${nearest}'? `}known: ${known.join(', ')}`;
}
