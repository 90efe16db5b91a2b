// Who may import whom, and the shape of every package: the rules that keep plugins independent of each other and of the engine.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { importSites, importsOf, packageOf, readPackages, root, typescriptFiles, type WorkspacePackage } from './workspace.js';

const packages = readPackages();
const plugins = packages.filter((one) => one.isPlugin);
const backends = packages.filter((one) => one.folder.startsWith('packages/backend-'));
const named = (name: string): WorkspacePackage => {
  const found = packages.find((one) => one.manifest.name === name);
  if (!found) throw new Error(`no package ${name}`);
  return found;
};

/** Our own packages that a package's sources import, as 'file imports name'. */
function ownImports(one: WorkspacePackage): { line: string; name: string }[] {
  return one.imports.flatMap(({ file, specifier }) => {
    const name = packageOf(specifier);
    return name?.startsWith('@lowbit/') ? [{ line: `${file} imports ${specifier}`, name }] : [];
  });
}

/** Imports of our own packages outside an allowed list. */
function forbidden(one: WorkspacePackage, allowed: readonly string[]): string[] {
  return ownImports(one).flatMap(({ line, name }) => (allowed.includes(name) ? [] : [line]));
}

/** Our packages that a manifest names for use at run time. */
function runtimeDependencies({ manifest }: WorkspacePackage): string[] {
  return Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies });
}

describe('imports', () => {
  it('core imports nothing of ours', () => expect(forbidden(named('@lowbit/core'), [])).toEqual([]));

  it.each(plugins)('$folder imports core, quant, linalg and train alone', (plugin) => {
    const allowed = ['@lowbit/core', '@lowbit/quant', '@lowbit/linalg', '@lowbit/train'];
    expect(forbidden(plugin, allowed)).toEqual([]);
    expect(runtimeDependencies(plugin).filter((name) => name.startsWith('@lowbit/') && !allowed.includes(name))).toEqual([]);
  });

  it.each(['@lowbit/pipeline', '@lowbit/eval'])('%s imports core and data alone', (name) => {
    expect(forbidden(named(name), ['@lowbit/core', '@lowbit/data'])).toEqual([]);
  });

  it('data imports core and hub alone, and hub core alone', () => {
    expect(forbidden(named('@lowbit/data'), ['@lowbit/core', '@lowbit/hub'])).toEqual([]);
    expect(forbidden(named('@lowbit/hub'), ['@lowbit/core'])).toEqual([]);
  });

  it.each(backends)('$folder imports core alone', (backend) => expect(forbidden(backend, ['@lowbit/core'])).toEqual([]));

  it('only bench and cli choose a backend, and nothing imports bench but the cli', () => {
    const engines = backends.map((one) => one.manifest.name);
    const libraries = packages.filter((one) => one.folder !== 'packages/bench' && one.folder !== 'packages/cli');
    const wrong = libraries.flatMap((one) =>
      ownImports(one).filter(({ name }) => [...engines, '@lowbit/bench', '@lowbit/cli'].includes(name)),
    );
    expect(wrong.map(({ line }) => line)).toEqual([]);
    expect(
      forbidden(
        named('@lowbit/bench'),
        packages.map((one) => one.manifest.name).filter((name) => name !== '@lowbit/cli'),
      ),
    ).toEqual([]);
  });

  it('no package imports a plugin but bench and cli', () => {
    const names = plugins.map((one) => one.manifest.name);
    const libraries = packages.filter((one) => one.folder !== 'packages/bench' && one.folder !== 'packages/cli');
    expect(libraries.flatMap((one) => ownImports(one).filter(({ name }) => names.includes(name))).map(({ line }) => line)).toEqual([]);
  });

  it.each(packages)('$folder declares what its sources import, and reaches into no package', (one) => {
    const declared = runtimeDependencies(one);
    const undeclared = one.imports.filter(({ specifier }) => {
      const name = packageOf(specifier);
      return name !== undefined && !declared.includes(name);
    });
    expect(undeclared.map(({ file, specifier }) => `${file} imports ${specifier}`)).toEqual([]);
    const outside = one.imports.filter(
      ({ file, specifier }) => specifier.startsWith('.') && !join(file, '..', specifier).startsWith(join(one.folder, 'src')),
    );
    expect(outside.map(({ file, specifier }) => `${file} imports ${specifier}`)).toEqual([]);
  });

  it.each(packages)('the tests of $folder import what its manifest declares', (one) => {
    const declared = [...runtimeDependencies(one), ...Object.keys(one.manifest.devDependencies ?? {}), one.manifest.name];
    const fromRoot = Object.keys(
      (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { devDependencies: object }).devDependencies,
    );
    const undeclared = importSites(typescriptFiles(join(root, one.folder, 'test'))).filter(({ specifier }) => {
      const name = packageOf(specifier);
      return name !== undefined && !declared.includes(name) && !fromRoot.includes(name);
    });
    expect(undeclared.map(({ file, specifier }) => `${file} imports ${specifier}`)).toEqual([]);
  });

  it('run-time dependencies among packages have no cycle', () => {
    const done = new Set<string>();
    const visit = (name: string, path: readonly string[]): void => {
      if (path.includes(name)) throw new Error(`cycle: ${[...path, name].join(' → ')}`);
      if (done.has(name)) return;
      for (const next of runtimeDependencies(named(name)).filter((other) => other.startsWith('@lowbit/'))) visit(next, [...path, name]);
      done.add(name);
    };
    for (const one of packages) visit(one.manifest.name, []);
  });

  it('finds imports however they are written', () => {
    const source =
      "import a from 'a';\nimport type { B } from \"b\";\nexport { c } from './c.js';\nimport 'd';\nconst e = await import('e');\nexport * from 'f';\nimport {\n  g,\n} from 'g';";
    expect(importsOf(source)).toEqual(['a', 'b', './c.js', 'd', 'e', 'f', 'g']);
  });
});

describe('sources', () => {
  it.each(packages)('$folder draws no random number without an address', (one) => {
    expect(one.sources.filter((file) => readFileSync(join(root, file), 'utf8').includes('Math.random'))).toEqual([]);
  });

  it.each(packages)('every source file of $folder opens with what it is for', (one) => {
    expect(one.sources.filter((file) => !/^(#!.*\n)?\/\/ \S/.test(readFileSync(join(root, file), 'utf8')))).toEqual([]);
  });
});

describe('manifests', () => {
  it.each(packages)(
    '$folder has the licence, the README, and exports that point at src here and at dist when published',
    ({ folder, manifest }) => {
      expect(manifest).toMatchObject({ license: 'MIT', type: 'module', sideEffects: false, engines: { node: '>=20.19' } });
      expect(existsSync(join(root, folder, 'README.md')), `${folder}/README.md`).toBe(true);
      expect(Object.keys(manifest.publishConfig?.exports ?? {})).toEqual(Object.keys(manifest.exports ?? {}));
      for (const [entry, source] of Object.entries(manifest.exports ?? {})) {
        if (typeof source !== 'string' || !source.endsWith('.ts')) continue;
        expect(existsSync(join(root, folder, source)), `${folder}: ${source}`).toBe(true);
        const built = source.replace('./src/', './dist/').replace(/\.ts$/, '');
        expect(manifest.publishConfig?.exports?.[entry]).toEqual({ types: `${built}.d.ts`, default: `${built}.js` });
      }
    },
  );

  it.each(plugins)('core is a peer dependency of $folder, never a dependency', ({ manifest }) => {
    expect(manifest.peerDependencies).toHaveProperty('@lowbit/core');
    expect(manifest.devDependencies).toHaveProperty('@lowbit/core');
    expect(manifest.dependencies ?? {}).not.toHaveProperty('@lowbit/core');
  });

  it.each(packages)('tsconfig of $folder references every package of ours that its sources use', ({ folder, manifest }) => {
    const config = JSON.parse(readFileSync(join(root, folder, 'tsconfig.json'), 'utf8')) as { references: { path: string }[] };
    const referenced = config.references.map(({ path }) => join(folder, path)).sort();
    const used = packages.filter((one) =>
      Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies }).includes(one.manifest.name),
    );
    expect(referenced).toEqual(used.map((one) => one.folder).sort());
  });
});
