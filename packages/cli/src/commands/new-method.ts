// lowbit new-method: a package for a method of one's own, with tests that pass.
import { join, resolve } from 'node:path';
import { LowbitError } from '@lowbit/core';
import type { Command } from 'commander';
import { type CommandContext, claimDirectory } from '../context.js';
import { builtInMethods } from '../methods.js';
import { writeMethodPackage } from '../new-method.js';
import { readVersion } from '../version.js';

interface NewMethodArguments {
  readonly out?: string;
  readonly force?: boolean;
}

export function addNewMethodCommand(program: Command, context: CommandContext): void {
  program
    .command('new-method')
    .description('make a package for a method of your own: a method that works, its tests, a README')
    .argument('<name>', "as recipes will name it: 'my-method' makes the package lowbit-method-my-method")
    .option('--out <directory>', 'where the package goes (default: lowbit-method-<name>)')
    .option('--force', 'overwrite what is there')
    .action((name: string, options: NewMethodArguments) => makeMethod(name, options, context));
}

async function makeMethod(name: string, { out, force = false }: NewMethodArguments, context: CommandContext): Promise<void> {
  const { directory, terminal } = context;
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name)) {
    throw new LowbitError('METHOD_NAME', `'${name}' cannot name a method; use small letters, digits and single hyphens: my-method`);
  }
  if (builtInMethods.some(({ definition }) => definition.name === name)) {
    throw new LowbitError('METHOD_NAME', `'${name}' comes with lowbit, and recipes would mean that one; choose another name`);
  }
  const home = resolve(directory, out ?? `lowbit-method-${name}`);
  const claimed = await claimDirectory(home, force);
  try {
    context.startWork();
    const files = await writeMethodPackage(name, readVersion(), home);
    for (const file of files) terminal.out(`${join(home, file)}\n`);
    terminal.out(`Next: npm install, npm test and npm run build there; then name it in recipes: --recipe ${name}:bits=3\n`);
  } finally {
    await claimed.release();
  }
}
