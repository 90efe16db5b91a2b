// What recipes and experiments can name: the built-in plugins, and installed packages called lowbit-method-<name>.
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, isAbsolute, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { didYouMean } from '@lowbit/bench';
import { type Experiment, LowbitError, type MethodDefinition, type Step } from '@lowbit/core';
import { decoupleq, experiments as decoupleqExperiments, decoupleqSft } from '@lowbit/decoupleq';
import { gptq } from '@lowbit/gptq';
import { emef, experiments as int2LrecExperiments, lowRankCorrection, lrec, mergeAdapters } from '@lowbit/int2-lrec';
import { qat, qatBlocks, experiments as qatExperiments } from '@lowbit/qat';
import { activations, compensate, quad, experiments as quadExperiments, rotate, tune } from '@lowbit/quad';
import { quzo, experiments as quzoExperiments } from '@lowbit/quzo';
import { rtn } from '@lowbit/rtn';

/** A method as the command line sees it: options of any kind in, a step out. */
export interface AnyMethod {
  (options?: Readonly<Record<string, unknown>>): Step;
  readonly definition: MethodDefinition;
}

/** What a plugin's package brings. */
export interface Plugin {
  /** As commands name it: that of the package without its prefix. */
  readonly name: string;
  readonly methods: readonly AnyMethod[];
  readonly experiments: readonly Experiment[];
}

/** The plugins that come with the command. */
export const builtInPlugins: readonly Plugin[] = [
  { name: 'rtn', methods: [rtn as unknown as AnyMethod], experiments: [] },
  { name: 'gptq', methods: [gptq as unknown as AnyMethod], experiments: [] },
  {
    name: 'decoupleq',
    methods: [decoupleq as unknown as AnyMethod, decoupleqSft as unknown as AnyMethod],
    experiments: decoupleqExperiments,
  },
  {
    name: 'int2-lrec',
    methods: [lrec, lowRankCorrection, emef, mergeAdapters] as unknown as readonly AnyMethod[],
    experiments: int2LrecExperiments,
  },
  {
    name: 'quad',
    methods: [activations, rotate, quad, compensate, tune] as unknown as readonly AnyMethod[],
    experiments: quadExperiments,
  },
  { name: 'quzo', methods: [quzo as unknown as AnyMethod], experiments: quzoExperiments },
  { name: 'qat', methods: [qatBlocks, qat] as unknown as readonly AnyMethod[], experiments: qatExperiments },
];

/** Their methods. */
export const builtInMethods: readonly AnyMethod[] = builtInPlugins.flatMap(({ methods }) => methods);

/**
 * The method of a name: a built-in one, or the default export of the package lowbit-method-<name> that is installed where the command runs.
 * @throws METHOD_UNKNOWN naming what is known; METHOD_PACKAGE when a package is there and is not built, or does not export a method.
 */
export async function findMethod(name: string, directory: string): Promise<AnyMethod> {
  const builtIn = builtInMethods.find(({ definition }) => definition.name === name);
  if (builtIn) return builtIn;
  const plugin = await importPlugin(name, directory);
  if (plugin === undefined) {
    const known = builtInMethods.map(({ definition }) => definition.name);
    const choices = didYouMean(name, known);
    throw new LowbitError('METHOD_UNKNOWN', `no method '${name}'; ${choices}; or install a package called ${packageOf(name)}`);
  }
  const [method] = plugin.methods;
  if (!method)
    throw new LowbitError('METHOD_PACKAGE', `${packageOf(name)}: its default export is not a method; export default defineMethod({ … })`);
  const own = method.definition.name;
  // Stored steps have the method's own name, and are found by it.
  if (own !== name)
    throw new LowbitError(
      'METHOD_PACKAGE',
      `${packageOf(name)}: its method is called '${own}'; call it '${name}', or the package ${packageOf(own)}`,
    );
  return method;
}

/**
 * The plugin of a name, built-in or installed where the command runs.
 * @throws PLUGIN_UNKNOWN naming what is known; METHOD_PACKAGE when a package is there and cannot be used.
 */
export async function findPlugin(name: string, directory: string): Promise<Plugin> {
  const found = builtInPlugins.find((plugin) => plugin.name === name) ?? (await importPlugin(name, directory));
  if (found) return found;
  const known = builtInPlugins.map((plugin) => plugin.name);
  throw new LowbitError(
    'PLUGIN_UNKNOWN',
    `no plugin '${name}'; ${didYouMean(name, known)}; or install a package called ${packageOf(name)}`,
  );
}

const PREFIX = 'lowbit-method-';

function packageOf(name: string): string {
  return `${PREFIX}${name}`;
}

/** Names of the packages called lowbit-method-<name> that are installed where the command runs, without their prefix, sorted. */
export async function installedPlugins(directory: string): Promise<string[]> {
  const names = new Set<string>();
  for (let folder = directory; ; folder = dirname(folder)) {
    // A folder without packages has none of these either.
    const packages = await readdir(join(folder, 'node_modules')).catch(() => []);
    for (const name of packages) if (name.startsWith(PREFIX)) names.add(name.slice(PREFIX.length));
    if (folder === dirname(folder)) return [...names].sort();
  }
}

/** Undefined when no such package is installed. */
async function importPlugin(name: string, directory: string): Promise<Plugin | undefined> {
  const packageName = packageOf(name);
  const path = resolveFrom(directory, packageName);
  if (path === undefined) return undefined;
  const { default: method, experiments = [] } = await importPackage(packageName, path);
  if (!Array.isArray(experiments) || !experiments.every(isExperiment)) {
    const remedy = 'export const experiments: readonly Experiment[]';
    throw new LowbitError('METHOD_PACKAGE', `${packageName}: its experiments are not a list of experiments; ${remedy} = [ … ]`);
  }
  return { name, methods: isMethod(method) ? [method] : [], experiments };
}

function isMethod(value: unknown): value is AnyMethod {
  return typeof value === 'function' && 'definition' in value;
}

/** What every command reads of an experiment; the rest is the compiler's to check. */
function isExperiment(value: unknown): value is Experiment {
  if (typeof value !== 'object' || value === null) return false;
  const { name, table, figure, arms, compute } = value as Readonly<Record<string, unknown>>;
  const isRun = Array.isArray(arms) || typeof compute === 'function';
  return typeof name === 'string' && typeof table === 'object' && typeof figure === 'object' && isRun;
}

async function importPackage(packageName: string, path: string): Promise<{ default?: unknown; experiments?: unknown }> {
  try {
    return (await import(pathToFileURL(path).href)) as { default?: unknown; experiments?: unknown };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new LowbitError('METHOD_PACKAGE', `${packageName}: cannot be loaded from ${path}: ${reason}`, { cause: error });
  }
}

/** The package's main file; undefined when no such package is installed. @throws METHOD_PACKAGE when it is, and has none. */
function resolveFrom(directory: string, packageName: string): string | undefined {
  try {
    return createRequire(join(directory, 'package.json')).resolve(packageName);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const home = installedAt(directory, packageName);
    if (home === undefined) return undefined;
    const refusal = (what: string): LowbitError =>
      new LowbitError('METHOD_PACKAGE', `${packageName}: is installed at ${home}, but ${what}`, { cause: error });
    if (code === 'ERR_PACKAGE_PATH_NOT_EXPORTED') {
      const remedy = 'give its package.json "exports": { ".": { "default": … } }, without the condition "import" alone';
      throw refusal(`exports no main file that can be found; ${remedy}`);
    }
    if (code !== 'MODULE_NOT_FOUND') throw refusal(`its package.json cannot be used (${message}); correct it`);
    const [, file] = /^Cannot find module '([^']+)'/.exec(message) ?? [];
    const name = file !== undefined && isAbsolute(file) && file !== home ? file : 'its main file';
    throw refusal(`${name} is not there; build it, with npm run build in ${home}, or install it again`);
  }
}

/** Where a package is installed that may not be built; undefined for one that is not installed. */
function installedAt(directory: string, packageName: string): string | undefined {
  for (let folder = directory; ; folder = dirname(folder)) {
    const home = join(folder, 'node_modules', packageName);
    if (existsSync(join(home, 'package.json'))) return home;
    if (folder === dirname(folder)) return undefined;
  }
}
