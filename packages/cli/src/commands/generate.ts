// lowbit generate: continues a prompt, printing tokens as they come.
import { resolveModel } from '@lowbit/bench';
import { createRng, LowbitError } from '@lowbit/core';
import { generate } from '@lowbit/models';
import type { Command } from 'commander';
import { addEngineOptions, type EngineArguments, integer, MODELS, number, openBackend, share } from '../arguments.js';
import type { CommandContext } from '../context.js';
import { addExecutionOption, type ExecutionArguments, withExecution } from '../execution.js';

interface GenerateArguments extends EngineArguments, ExecutionArguments {
  readonly prompt: string;
  readonly tokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly seed: number;
  readonly json?: boolean;
}

export function addGenerateCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('generate')
    .description('continue a prompt')
    .argument('<model>', MODELS)
    .option('--prompt <text>', 'text to continue', '')
    .option('--tokens <count>', 'tokens to write at most', integer(1), 100)
    .option('--temperature <value>', '0 takes the most probable token', number(0), 0.8)
    .option('--top-k <count>', 'draw among this many tokens', integer(1))
    .option('--top-p <share>', 'draw among the most probable tokens that have this share together', share)
    .option('--seed <number>', 'of the draws', integer(0), 0)
    .option('--json', 'one JSON object on stdout, at the end');
  addEngineOptions(addExecutionOption(command)).action((reference: string, options: GenerateArguments) =>
    runGenerate(reference, options, context),
  );
}

async function runGenerate(
  reference: string,
  options: GenerateArguments,
  { terminal, directory, hub, signal, startWork }: CommandContext,
): Promise<void> {
  const { prompt, tokens, temperature, topK, topP, seed, json, execution } = options;
  const { name, model: simulated, tokenizer } = await resolveModel(reference, directory, hub);
  const { model, note } = withExecution(simulated, name, options);
  const ids = tokenizer.encode(prompt, { bos: tokenizer.addsBos || prompt === '' });
  const { contextLength } = model.config;
  if (ids.length >= contextLength) {
    throw new LowbitError(
      'PROMPT_LENGTH',
      `--prompt: ${ids.length} tokens leave no room in the context of ${contextLength} tokens of ${name}; use a shorter prompt`,
    );
  }
  const maxTokens = Math.min(tokens, contextLength - ids.length);
  const backend = await openBackend(options);
  try {
    startWork();
    if (note !== undefined) terminal.err(`${note}\n`);
    const written: number[] = [];
    let shown = 0;
    // A token may be part of a character, so what is printed is the difference between two decoded texts.
    const show = (): void => {
      const text = tokenizer.decode([...ids, ...written]);
      if (text.endsWith('\ufffd')) return;
      terminal.out(text.slice(shown));
      shown = text.length;
    };
    if (!json) show();
    const [continuation] = await generate(model, backend, {
      prompts: [ids],
      maxTokens,
      temperature,
      topK,
      topP,
      rng: createRng(seed).at('cli'),
      stopToken: tokenizer.eosToken,
      signal,
      onTokens: (news) => {
        written.push(...news.map(({ token }) => token));
        if (!json) show();
      },
    });
    const record = { model: name, prompt, text: tokenizer.decode(continuation), tokens: continuation.length, temperature, seed, execution };
    terminal.out(json ? `${JSON.stringify(record)}\n` : '\n');
  } finally {
    await backend.dispose();
  }
}
