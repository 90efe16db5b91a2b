// Makes SentencePiece-style BPE fast on long text: cuts it at word boundaries first, where that cannot change the result.

const SPACE = '\u2581';

interface PreTokenizer {
  readonly type: string;
  readonly split?: boolean;
}

interface BpeModel {
  readonly type?: string;
  readonly vocab: Readonly<Record<string, number>>;
  readonly merges?: unknown;
}

/**
 * The tokenizer description with a word-splitting pre-tokenizer added when it has none.
 *
 * Llama-like checkpoints merge over the whole text: time grows faster than its length, and no word is ever found in the cache.
 * Every result of a merge is a vocabulary piece. If no piece has '▁' after another character, no merge ever joins the end of one
 * word to the '▁' of the next, so that merging within words gives the same pieces; likewise a newline that occurs in no longer piece stands alone.
 */
export function withWordSplit<T extends { readonly model: unknown; readonly pre_tokenizer: unknown }>(description: T): T {
  const model = description.model as BpeModel;
  const before = description.pre_tokenizer as PreTokenizer | null;
  if (model.type !== 'BPE' || !(before === null || before.type === 'Metaspace')) return description;
  const pieces = Object.keys(model.vocab);
  if (!(SPACE in model.vocab) || pieces.some((piece) => /[^\u2581]\u2581/u.test(piece))) return description;
  const pattern = wordPattern(pieces, before !== null && before.split !== false);
  const words = { type: 'Split', pattern: { Regex: pattern }, behavior: 'Removed', invert: true };
  return { ...description, pre_tokenizer: before === null ? words : { type: 'Sequence', pretokenizers: [before, words] } };
}

/**
 * Matches one word after another, leaving nothing out. A Metaspace that splits (the Hugging Face default, which the library
 * ignores) starts a word at every '▁'; otherwise runs of '▁' stay together, since they may be pieces of their own.
 */
function wordPattern(pieces: readonly string[], isEverySpaceAStart: boolean): string {
  const newlineStandsAlone = !pieces.some((piece) => piece.length > 1 && piece.includes('\n'));
  const letters = newlineStandsAlone ? `[^${SPACE}\\n]` : `[^${SPACE}]`;
  const words = isEverySpaceAStart ? `${SPACE}${letters}*|${letters}+` : `${SPACE}*${letters}+|${SPACE}+`;
  return newlineStandsAlone ? `\\n|${words}` : words;
}
