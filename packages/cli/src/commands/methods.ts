// lowbit methods: the methods that recipes can name, and their options.
import type { MethodDefinition } from '@lowbit/core';
import type { Command } from 'commander';
import type { CommandContext } from '../context.js';
import { builtInMethods, findMethod, installedPlugins } from '../methods.js';
import { describeOptions, methodHelp } from '../option-help.js';

/** Stages of the method contract that a method fills. */
function stagesOf(definition: MethodDefinition): string[] {
  return (['transform', 'quantizeLinear', 'refineBlock', 'finetune'] as const).filter((stage) => definition[stage] !== undefined);
}

export function addMethodsCommand(program: Command, { terminal, directory }: CommandContext): void {
  program
    .command('methods')
    .description('list the methods that recipes can name, built in and installed here, with their options')
    .argument('[name]', 'show one method')
    .option('--json', 'one JSON object a method on stdout')
    .action(async (name: string | undefined, { json }: { json?: boolean }) => {
      const methods = name === undefined ? [...builtInMethods] : [await findMethod(name, directory)];
      for (const installed of name === undefined ? await installedPlugins(directory) : []) {
        // One package that cannot be used hides no other.
        const method = await findMethod(installed, directory).catch((error: Error) => terminal.err(`${error.message}\n`));
        if (method) methods.push(method);
      }
      for (const { definition } of methods) {
        const { version, description } = definition;
        const record = {
          method: definition.name,
          version,
          description,
          stages: stagesOf(definition),
          options: describeOptions(definition) ?? null,
        };
        terminal.out(json ? `${JSON.stringify(record)}\n` : `${methodHelp(definition)}\n\n`);
      }
      if (json || name !== undefined) return;
      terminal.out("Every method also takes targets (globs over Linears: '**.q_proj') and overrides (options by glob).\n");
    });
}
