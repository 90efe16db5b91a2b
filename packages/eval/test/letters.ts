// A tokenizer for toy models: a token a letter, and one for 'ab' together, so that two texts can be cut otherwise than each alone.
import type { Tokenizer } from '@lowbit/data';

const BOS = 1;
const EOS = 2;
const PAIR = 3;
const FIRST = 4;

/** 0 is for what is no letter. */
const characters = ' \n.:abcdefghijklmnop';

/** Its vocabulary has 24 tokens. */
export function letterTokenizer({ addsBos = true, hasBos = true }: { addsBos?: boolean; hasBos?: boolean } = {}): Tokenizer {
  return {
    vocabularySize: 24,
    bosToken: hasBos ? BOS : undefined,
    eosToken: EOS,
    addsBos,
    encode(text, { bos = false } = {}) {
      const pieces = text.toLowerCase().match(/ab|./gsu) ?? [];
      const ids = pieces.map((piece) =>
        piece === 'ab' ? PAIR : piece === '^' ? BOS : Math.max(0, FIRST + characters.indexOf(piece)) % 24,
      );
      return Int32Array.from(bos ? [BOS, ...ids] : ids);
    },
    decode: (ids) => Array.from(ids, (id) => (id === PAIR ? 'ab' : (characters[id - FIRST] ?? ''))).join(''),
  };
}
