// The package of a method, made from the template that comes with the command.
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const template = fileURLToPath(new URL('../template', import.meta.url));

/** Ranges of what a method's package needs that is not ours. */
const foreign = { typescript: '~5.9.3', vitest: '^4.1.0', zod: '^4.6.0' };

/**
 * Writes the package lowbit-method-<name> into a directory.
 * @param version of the lowbit packages that it is written against.
 * @returns the paths of its files within the directory.
 */
export async function writeMethodPackage(name: string, version: string, directory: string): Promise<string[]> {
  const files = new Map([['package.json', manifestOf(name, version)]]);
  for (const path of await readdir(template, { recursive: true, withFileTypes: true })) {
    if (!path.isFile()) continue;
    const file = join(path.parentPath, path.name);
    files.set(file.slice(template.length + 1), (await readFile(file, 'utf8')).replaceAll('{{name}}', name));
  }
  for (const [path, text] of files) {
    await mkdir(dirname(join(directory, path)), { recursive: true });
    await writeFile(join(directory, path), text);
  }
  return [...files.keys()].sort();
}

/** Core is a peer: two copies of it would not know each other's tensors. */
function manifestOf(name: string, version: string): string {
  const ours = (names: readonly string[]) => Object.fromEntries(names.map((one) => [`@lowbit/${one}`, `^${version}`]));
  const manifest = {
    name: `lowbit-method-${name}`,
    version: '0.1.0',
    description: 'A quantization method for lowbit',
    keywords: ['lowbit', 'quantization'],
    license: 'MIT',
    type: 'module',
    engines: { node: '>=20.19' },
    files: ['dist'],
    exports: { '.': { types: './dist/index.d.ts', default: './dist/index.js' } },
    scripts: { build: 'tsc', test: 'vitest run', prepack: 'tsc' },
    dependencies: { ...ours(['quant']), zod: foreign.zod },
    peerDependencies: ours(['core']),
    devDependencies: {
      ...ours(['backend-reference', 'core', 'pipeline', 'testkit']),
      typescript: foreign.typescript,
      vitest: foreign.vitest,
    },
  };
  return `${JSON.stringify(manifest, null, 2)}\n`;
}
