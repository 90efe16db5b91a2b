// Tokenizers of checkpoints without a tokenizer.json: made of vocab.json and merges.txt, as transformers makes them.
import { writeFile } from 'node:fs/promises';
import { Tokenizer } from '@huggingface/tokenizers';
import { describe, expect, it } from 'vitest';
import { openCheckpoint, saveCheckpoint } from '../src/index.js';
import { toy } from './mixed-model.js';
import { temporaryDirectory } from './temporary-directory.js';

const at = temporaryDirectory();

const pieces = ['<s>', '<pad>', '</s>', ...'helowrdĠ!Ã©', 'he', 'll', 'hell', 'hello', 'Ġw', 'or', 'Ġwor', 'Ã©'];
const vocabulary: Readonly<Record<string, number>> = Object.fromEntries(pieces.map((piece, id) => [piece, id]));
const merges = '#version: 0.2\nh e\nl l\nhe ll\nhell o\nĠ w\no r\nĠw or\nÃ ©\n';
// As OPT's.
const config = {
  errors: 'replace',
  bos_token: { content: '</s>' },
  eos_token: { content: '</s>' },
  add_prefix_space: false,
  add_bos_token: true,
};

async function checkpointWith(files: Readonly<Record<string, unknown>>) {
  await saveCheckpoint(at('opt'), toy());
  for (const [name, content] of Object.entries(files)) {
    await writeFile(at('opt', name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return openCheckpoint(at('opt'));
}

describe('vocab.json and merges.txt', () => {
  it('become a tokenizer that cuts text as GPT-2 does', async () => {
    const special = { pad_token: '<pad>', bos_token: '<s>' };
    const checkpoint = await checkpointWith({
      'vocab.json': vocabulary,
      'merges.txt': merges,
      'tokenizer_config.json': config,
      'special_tokens_map.json': special,
      'added_tokens.json': { '<extra>': 40 },
    });
    const files = (await checkpoint.tokenizer()) ?? expect.fail('no tokenizer');
    expect(files.config).toEqual({ ...special, ...config });
    const tokenizer = new Tokenizer(files.tokenizer as ConstructorParameters<typeof Tokenizer>[0], files.config);
    const { ids, tokens } = tokenizer.encode('hello world!é</s><extra>hell<pad>', { add_special_tokens: false });
    expect(tokens).toEqual(['hello', 'Ġwor', 'l', 'd', '!', 'Ã©', '</s>', '<extra>', 'hell', '<pad>']);
    const known: Readonly<Record<string, number>> = { ...vocabulary, '<extra>': 40 };
    expect(ids).toEqual(tokens.map((token: string) => known[token]));
    expect(tokenizer.decode(ids, { skip_special_tokens: true, clean_up_tokenization_spaces: false })).toBe('hello world!éhell');
  });

  it('are not looked at beside a tokenizer.json', async () => {
    const own = { model: { type: 'BPE' } };
    const both = await checkpointWith({ 'vocab.json': vocabulary, 'merges.txt': merges, 'tokenizer.json': own });
    expect(await both.tokenizer()).toEqual({ tokenizer: own, config: {} });
  });

  it.each([
    ['merges.txt alone', { 'merges.txt': merges }],
    ['vocab.json alone', { 'vocab.json': vocabulary }],
    [
      'files of another class',
      { 'vocab.json': vocabulary, 'merges.txt': merges, 'tokenizer_config.json': { tokenizer_class: 'Qwen2Tokenizer' } },
    ],
  ])('make no tokenizer: %s', async (_, files) => {
    expect(await (await checkpointWith(files)).tokenizer()).toBeUndefined();
  });

  it.each([
    ['an id that is none', { 'vocab.json': { a: 'b' }, 'merges.txt': merges }, /^TOKENIZER_FILES: .*vocab\.json: 'a' has the id "b"/],
    ['a line of three', { 'vocab.json': vocabulary, 'merges.txt': 'h e l\n' }, /^TOKENIZER_FILES: .*merges\.txt: 'h e l' is not a pair/],
    ['no JSON', { 'vocab.json': '{', 'merges.txt': merges }, /^JSON_FILE: .*vocab\.json/],
  ])('are refused with %s', async (_, files, message) => {
    await expect((await checkpointWith(files)).tokenizer()).rejects.toThrow(message);
  });
});
