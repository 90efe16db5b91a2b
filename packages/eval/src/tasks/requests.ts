// Prompts and endings as tokens to score, cut as EleutherAI's lm-evaluation-harness cuts them.
import { LowbitError } from '@lowbit/core';
import type { Tokenizer } from '@lowbit/data';
import { stripEnd } from './python-text.js';

/** Tokens of which the last ones are scored, each given all before it. */
export interface Request {
  /** Input of the model and the token behind it. */
  readonly tokens: Int32Array;
  /** How many of the last tokens are scored. */
  readonly scored: number;
  /** The record it is of, 'test.jsonl:3', for errors. */
  readonly where: string;
  /** Whether its beginning did not fit into the context. */
  readonly isShortened: boolean;
}

/**
 * Prompt and ending are cut into tokens together, and what is beyond the tokens of the prompt alone is scored; spaces at the end of the
 * prompt go to the ending first. BOS comes before where the tokenizer adds it. Of a text longer than the context the beginning is left out.
 * @throws TASK_ENDING for an ending without a token of its own, CONTEXT_LENGTH for one longer than the context, TOKENIZER_BOS.
 */
export function requestOf(prompt: string, ending: string, tokenizer: Tokenizer, contextLength: number, where: string): Request {
  const isEmpty = stripEnd(prompt) === '';
  const [before, after] = isEmpty ? afterNothing(prompt + ending, tokenizer) : afterPrompt(prompt, ending, tokenizer);
  if (after.length === 0) {
    throw new LowbitError('TASK_ENDING', `${where}: '${ending}' has no token of its own behind its prompt; leave the example out`);
  }
  if (after.length > contextLength) {
    const context = `the model's context of ${contextLength}`;
    throw new LowbitError('CONTEXT_LENGTH', `${where}: an ending of ${after.length} tokens exceeds ${context}; leave the example out`);
  }
  const whole = Int32Array.from([...before, ...after]);
  const tokens = whole.slice(-(contextLength + 1));
  return { tokens, scored: after.length, where, isShortened: tokens.length < whole.length };
}

function afterPrompt(prompt: string, ending: string, tokenizer: Tokenizer): [Int32Array, Int32Array] {
  const bos = tokenizer.addsBos;
  const before = tokenizer.encode(stripEnd(prompt), { bos });
  const whole = tokenizer.encode(prompt + ending, { bos });
  // A tokenizer may cut the two together into fewer tokens than the prompt has alone, or into others: the harness takes them as they come.
  return [before, whole.subarray(before.length)];
}

/** Nothing to read: a BOS token, or the token that ends a text. */
function afterNothing(ending: string, tokenizer: Tokenizer): [Int32Array, Int32Array] {
  const tokens = tokenizer.encode(ending);
  const first = tokenizer.bosToken ?? tokenizer.eosToken;
  if (first === undefined) {
    throw new LowbitError(
      'TOKENIZER_BOS',
      'an empty prompt needs a BOS or EOS token, and the tokenizer has neither; name one in its config',
    );
  }
  return first === tokens[0] ? [tokens.subarray(0, 1), tokens.subarray(1)] : [Int32Array.of(first), tokens];
}
