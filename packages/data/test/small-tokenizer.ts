// A Llama-like tokenizer.json small enough to read: byte fallback, '▁' for spaces, a handful of merges.
interface Description {
  readonly normalizer: unknown;
  readonly pre_tokenizer: unknown;
  readonly post_processor: unknown;
  readonly decoder: unknown;
  readonly added_tokens: readonly unknown[];
  readonly model: { readonly type: string; readonly vocab: Record<string, number>; readonly merges: readonly string[] };
}

const letters = ['▁', 'a', 'b', 'c', 'd', 'e', 'h', 'l', 'o', 'r', 'w', '.'];
const merges = [
  '▁ ▁',
  'h e',
  'l l',
  'he ll',
  '▁ w',
  'hell o',
  '▁ hello',
  '▁w o',
  'r l',
  '▁wo rl',
  '▁worl d',
  'a b',
  '▁ a',
  '▁a b',
  '▁▁ ▁▁',
];

/** `extraMerges` are appended; `newlineMerge` makes '\n\n' a piece. */
export function smallTokenizer({
  preTokenizer = null,
  extraMerges = [],
}: {
  preTokenizer?: unknown;
  extraMerges?: readonly string[];
} = {}): Description {
  const vocab: Record<string, number> = { '<unk>': 0, '<s>': 1, '</s>': 2 };
  const put = (piece: string) => {
    vocab[piece] ??= Object.keys(vocab).length;
  };
  for (let byte = 0; byte < 256; byte++) put(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  for (const letter of letters) put(letter);
  const all = [...merges, ...extraMerges];
  for (const merge of all) {
    for (const part of merge.split(' ')) put(part);
    put(merge.replace(' ', ''));
  }
  const special = (id: number, content: string) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  return {
    added_tokens: [special(0, '<unk>'), special(1, '<s>'), special(2, '</s>')],
    normalizer:
      preTokenizer === null
        ? {
            type: 'Sequence',
            normalizers: [
              { type: 'Prepend', prepend: '▁' },
              { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
            ],
          }
        : null,
    pre_tokenizer: preTokenizer,
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: { type: 'BPE', vocab, merges: all, ...{ unk_token: '<unk>', byte_fallback: true, fuse_unk: true } },
  };
}

export const smallConfig = { bos_token: '<s>', eos_token: { content: '</s>' }, unk_token: '<unk>' };
