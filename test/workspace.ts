// The packages of this repository as tests see them: manifests, source files and what those import.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

interface Manifest {
  readonly name: string;
  readonly private?: boolean;
  readonly license?: string;
  readonly type?: string;
  readonly sideEffects?: boolean;
  readonly engines?: Readonly<Record<string, string>>;
  readonly exports?: Readonly<Record<string, unknown>>;
  readonly publishConfig?: { readonly exports?: Readonly<Record<string, unknown>> };
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

/** One `import` or `export … from`: the file it stands in and what it names. */
export interface ImportSite {
  readonly file: string;
  readonly specifier: string;
}

export interface WorkspacePackage {
  /** 'packages/core', relative to the root. */
  readonly folder: string;
  readonly isPlugin: boolean;
  readonly manifest: Manifest;
  /** TypeScript files below `src`, relative to the root. */
  readonly sources: readonly string[];
  readonly imports: readonly ImportSite[];
}

/** Files below a folder whose names end in `.ts`, without build outputs. */
export function typescriptFiles(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name === 'node_modules' || entry.name === 'dist') return [];
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return typescriptFiles(path);
    return entry.name.endsWith('.ts') ? [path] : [];
  });
}

/** Specifiers of all static and dynamic imports and re-exports of a module, as the compiler's own scanner finds them. */
export function importsOf(source: string): string[] {
  return ts.preProcessFile(source, true, true).importedFiles.map(({ fileName }) => fileName);
}

export function importSites(files: readonly string[]): ImportSite[] {
  return files.flatMap((file) => importsOf(readFileSync(file, 'utf8')).map((specifier) => ({ file: relative(root, file), specifier })));
}

function readPackage(folder: string): WorkspacePackage {
  const sources = typescriptFiles(join(folder, 'src'));
  return {
    folder: relative(root, folder),
    isPlugin: relative(root, folder).startsWith('plugins'),
    manifest: JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest,
    sources: sources.map((file) => relative(root, file)),
    imports: importSites(sources),
  };
}

/** Every package below packages/ and plugins/. */
export function readPackages(): WorkspacePackage[] {
  return ['packages', 'plugins'].flatMap((parent) =>
    readdirSync(join(root, parent))
      .map((name) => join(root, parent, name))
      .filter((folder) => existsSync(join(folder, 'package.json')))
      .map(readPackage),
  );
}

/** The package a specifier names: '@lowbit/core' of '@lowbit/core/x', 'yaml' of 'yaml/util'; undefined for relative and node: ones. */
export function packageOf(specifier: string): string | undefined {
  if (specifier.startsWith('.') || specifier.startsWith('node:')) return undefined;
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}
