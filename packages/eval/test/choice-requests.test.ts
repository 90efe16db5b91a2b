// How prompts and endings become tokens: the conventions of lm-evaluation-harness, by hand.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { requestOf } from '../src/tasks/requests.js';
import { letterTokenizer } from './letters.js';

const tokenizer = letterTokenizer();
const ids = (text: string, bos = false): number[] => [...tokenizer.encode(text, { bos })];
const request = (prompt: string, ending: string, contextLength = 32) => requestOf(prompt, ending, tokenizer, contextLength, 'x:1');

describe('requestOf', () => {
  it('scores what is behind the tokens of the prompt, with BOS before', () => {
    const whole = { where: 'x:1', isShortened: false };
    expect(request('cd:', ' ef')).toEqual({ tokens: Int32Array.from(ids('cd: ef', true)), scored: 3, ...whole });
  });

  it('moves spaces at the end of the prompt to the ending', () => {
    expect(request('cd: \n', 'ef')).toMatchObject({ tokens: Int32Array.from(ids('cd: \nef', true)), scored: 4 });
  });

  it('counts the tokens of the prompt alone, where the two together are cut otherwise', () => {
    // 'c', 'ab', 'd' together; the prompt alone is 'c', 'a', behind which 'd' is what is left.
    expect(request('ca', 'bd')).toMatchObject({ tokens: Int32Array.from(ids('cad', true)), scored: 1 });
  });

  it('has a BOS before an ending without a prompt, or an end of text where there is no BOS', () => {
    expect(request('', 'cd')).toMatchObject({ tokens: Int32Array.from([1, ...ids('cd')]), scored: 2 });
    expect(request(' ', 'cd')).toMatchObject({ tokens: Int32Array.from([1, ...ids(' cd')]), scored: 3 });
    const without = requestOf('', 'cd', letterTokenizer({ addsBos: false, hasBos: false }), 32, 'x:1');
    expect(without).toMatchObject({ tokens: Int32Array.from([2, ...ids('cd')]), scored: 2 });
  });

  it('takes the BOS that an ending begins with for the prompt', () => {
    expect(request('', '^cd')).toMatchObject({ tokens: Int32Array.from([1, ...ids('cd')]), scored: 2 });
  });

  it('adds no BOS where the tokenizer does not', () => {
    const { tokens } = requestOf('cd', 'e', letterTokenizer({ addsBos: false }), 32, 'x:1');
    expect(tokens).toEqual(Int32Array.from(ids('cde')));
  });

  it('leaves out the beginning of what is longer than the context, and never an ending', () => {
    const text = fc.string({ unit: fc.constantFrom(...'cdefg. '), minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(fc.constant('h'), text, text, (start, prompt, ending) => {
        const whole = request(start + prompt, `e${ending}`, 64);
        const cut = request(start + prompt, `e${ending}`, 20);
        expect(cut.scored).toBe(whole.scored);
        expect([...cut.tokens]).toEqual([...whole.tokens].slice(-21));
        expect(cut.tokens.length).toBeGreaterThan(cut.scored);
        expect([whole.isShortened, cut.isShortened]).toEqual([false, whole.tokens.length > 21]);
      }),
    );
  });

  it.each([
    ['TASK_ENDING', 'ca', 'b', 32],
    ['CONTEXT_LENGTH', 'c', 'defgh', 4],
  ])('%s', (code, prompt, ending, contextLength) => {
    expect(() => request(prompt, ending, contextLength)).toThrow(expect.objectContaining({ code }));
  });

  it('TOKENIZER_BOS for no prompt and no token to begin with', () => {
    const none = { ...letterTokenizer({ hasBos: false, addsBos: false }), eosToken: undefined };
    expect(() => requestOf('', 'c', none, 8, 'x:1')).toThrow(expect.objectContaining({ code: 'TOKENIZER_BOS' }));
  });
});
