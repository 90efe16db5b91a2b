// What a model writes when it is given the beginning.
import { type Backend, createRng, type Model, type SampleRequest, type SampleText } from '@lowbit/core';
import type { Tokenizer } from '@lowbit/data';
import { generate } from '@lowbit/models';

interface Writer {
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  readonly backend: Backend;
  readonly seed: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Continues every prompt, up to the end of the text, of `maxTokens` or of the model's context.
 * @throws CONTEXT_LENGTH when a prompt leaves no room; GENERATE_OPTIONS, and what the tokenizer throws.
 */
export async function writeSamples(request: SampleRequest, { model, tokenizer, backend, seed, signal }: Writer): Promise<SampleText[]> {
  const { prompts, maxTokens, temperature } = request;
  const ids = prompts.map((prompt) => tokenizer.encode(prompt, { bos: tokenizer.addsBos || prompt === '' }));
  const room = model.config.contextLength - Math.max(...ids.map(({ length }) => length));
  const written = await generate(model, backend, {
    prompts: ids,
    maxTokens: Math.max(1, Math.min(maxTokens, room)),
    rng: createRng(seed).at('samples'),
    stopToken: tokenizer.eosToken,
    signal,
    ...(temperature !== undefined && { temperature }),
  });
  return prompts.map((prompt, i) => {
    // The first new token may begin in the middle of a word.
    const whole = tokenizer.decode([...ids[i], ...written[i]]);
    return { prompt, text: whole.slice(tokenizer.decode(ids[i]).length) };
  });
}
