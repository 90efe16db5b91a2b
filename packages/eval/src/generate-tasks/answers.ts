// What a model writes behind prompts, greedily, up to texts that end an answer.
import { type Backend, LowbitError, type Model } from '@lowbit/core';
import type { Tokenizer } from '@lowbit/data';

/** What the generator of @lowbit/models is asked for; its `generate` fits. */
interface AnswerRequest {
  readonly prompts: readonly Int32Array[];
  readonly together: number;
  readonly maxTokens: number;
  readonly stopToken: number | undefined;
  readonly isDone: (tokens: readonly number[], sequence: number) => boolean;
  readonly onTokens: (tokens: readonly { readonly sequence: number; readonly token: number }[]) => void;
  readonly signal: AbortSignal | undefined;
}

/** Continues each prompt greedily: the new tokens of each. */
export type GenerateAnswers = (model: Model, backend: Backend, request: AnswerRequest) => Promise<readonly Int32Array[]>;

export interface AnswerOptions {
  readonly backend: Backend;
  readonly tokenizer: Tokenizer;
  readonly generate: GenerateAnswers;
  readonly maxTokens: number;
  readonly stops: readonly string[];
  /** Prompts decoded together. */
  readonly together: number;
  readonly signal?: AbortSignal | undefined;
  readonly progress?: ((done: number, total: number) => void) | undefined;
}

export interface Answers {
  /** Of each prompt, without what ended it. */
  readonly texts: readonly string[];
  /** Prompts that did not fit into the context before an answer: their beginning was left out. */
  readonly shortened: number;
}

/**
 * Answers to texts, as the harness has them written: BOS before a prompt where the tokenizer adds it, and of a prompt that leaves no room for
 * `maxTokens` the last tokens alone. One thing differs: an answer is decoded behind its prompt, so that a space at its beginning stays.
 * @throws CONTEXT_LENGTH when an answer alone fills the context.
 */
export async function writeAnswers(model: Model, texts: readonly string[], options: AnswerOptions): Promise<Answers> {
  const { backend, tokenizer, generate, maxTokens, stops, together, signal, progress } = options;
  const room = model.config.contextLength - maxTokens;
  if (room < 1) {
    throw new LowbitError(
      'CONTEXT_LENGTH',
      `answers of ${maxTokens} tokens leave no room for a prompt in the model's context of ${model.config.contextLength}; allow fewer tokens`,
    );
  }
  const whole = texts.map((text) => tokenizer.encode(text, { bos: tokenizer.addsBos }));
  const prompts = whole.map((ids) => ids.slice(-room));
  // A character is at least a byte, a token as well.
  const lookBack = 2 + stops.reduce((most, stop) => Math.max(most, new TextEncoder().encode(stop).length), 0);
  const counts = prompts.map(() => 0);
  let done = 0;
  const isDone = (tokens: readonly number[]): boolean => {
    const tail = textOf(tokenizer, tokens.slice(-lookBack));
    return stops.some((stop) => tail.includes(stop));
  };
  const answers = await generate(model, backend, {
    ...{ prompts, together, maxTokens, signal, stopToken: tokenizer.eosToken },
    isDone: (tokens) => {
      const isLast = isDone(tokens);
      if (isLast) progress?.(++done, prompts.length);
      return isLast;
    },
    onTokens: (tokens) => {
      for (const { sequence, token } of tokens) {
        if (++counts[sequence] === maxTokens || token === tokenizer.eosToken) progress?.(++done, prompts.length);
      }
    },
  });
  return {
    texts: answers.map((ids, i) => cutAtStops(decodeBehind(tokenizer, prompts[i], ids), stops)),
    shortened: whole.filter(({ length }) => length > room).length,
  };
}

/** The text that new tokens add behind a prompt: decoded alone, many tokenizers drop a space before the first word. */
function decodeBehind(tokenizer: Tokenizer, prompt: Int32Array, added: Int32Array): string {
  const last = prompt.slice(-1);
  const before = textOf(tokenizer, last);
  const both = textOf(tokenizer, [...last, ...added]);
  return both.startsWith(before) ? both.slice(before.length) : textOf(tokenizer, added);
}

/** Ids that stand for no text are left out, as special tokens are: a model may have more of them than its tokenizer, to fill its matrices up. */
function textOf(tokenizer: Tokenizer, ids: ArrayLike<number>): string {
  return tokenizer.decode(Array.from(ids).filter((id) => id < tokenizer.vocabularySize));
}

/** As the harness cuts: at the first stop, of what is left at the next one, and so on. */
export function cutAtStops(text: string, stops: readonly string[]): string {
  return stops.reduce((rest, stop) => rest.split(stop, 1)[0], text);
}
