// The methods that recipes can name: the built-in ones, and installed packages called lowbit-method-<name>.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { didYouMean } from '@lowbit/bench';
import { LowbitError, type MethodDefinition, type Step } from '@lowbit/core';
import { gptq } from '@lowbit/gptq';
import { rtn } from '@lowbit/rtn';

/** A method as the command line sees it: options of any kind in, a step out. */
export interface AnyMethod {
  (options?: Readonly<Record<string, unknown>>): Step;
  readonly definition: MethodDefinition;
}

/** The methods that come with the command. */
export const builtInMethods: readonly AnyMethod[] = [rtn as unknown as AnyMethod, gptq as unknown as AnyMethod];

/**
 * The method of a name: a built-in one, or the default export of the package lowbit-method-<name> that is installed where the command runs.
 * @throws METHOD_UNKNOWN naming what is known; METHOD_PACKAGE when a package is there and does not export a method.
 */
export async function findMethod(name: string, directory: string): Promise<AnyMethod> {
  const builtIn = builtInMethods.find(({ definition }) => definition.name === name);
  return builtIn ?? importMethod(name, directory);
}

async function importMethod(name: string, directory: string): Promise<AnyMethod> {
  const packageName = `lowbit-method-${name}`;
  const path = resolveFrom(directory, packageName);
  if (path === undefined) {
    const known = builtInMethods.map(({ definition }) => definition.name);
    throw new LowbitError('METHOD_UNKNOWN', `no method '${name}'; ${didYouMean(name, known)}; or install a package called ${packageName}`);
  }
  const exported = (await importPackage(packageName, path)).default;
  if (typeof exported !== 'function' || !('definition' in exported)) {
    throw new LowbitError('METHOD_PACKAGE', `${packageName}: its default export is not a method; export default defineMethod({ … })`);
  }
  return exported as unknown as AnyMethod;
}

async function importPackage(packageName: string, path: string): Promise<{ default?: unknown }> {
  try {
    return (await import(pathToFileURL(path).href)) as { default?: unknown };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new LowbitError('METHOD_PACKAGE', `${packageName}: cannot be loaded from ${path}: ${reason}`, { cause: error });
  }
}

/** The package's main file; undefined when no such package is installed. */
function resolveFrom(directory: string, packageName: string): string | undefined {
  try {
    return createRequire(join(directory, 'package.json')).resolve(packageName);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_PACKAGE_PATH_NOT_EXPORTED') return undefined;
    const remedy = `give its package.json "exports": { ".": { "default": … } }, without the condition "import" alone`;
    throw new LowbitError('METHOD_PACKAGE', `${packageName}: is installed, but exports no main file that can be found; ${remedy}`, {
      cause: error,
    });
  }
}
