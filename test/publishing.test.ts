// What check-packages asks of a package before it may be published.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { manifestProblems, type PackedManifest } from '../scripts/publishing.js';
import { root } from './workspace.js';

const good: PackedManifest = {
  name: '@lowbit/one',
  version: '1.2.3',
  license: 'MIT',
  description: 'One',
  publishConfig: { access: 'public' },
  exports: { '.': { types: './dist/index.d.ts', default: './dist/index.js' } },
  bin: { one: './dist/bin.js' },
  dependencies: { '@lowbit/two': '^1.2.3', zod: '^4.6.0', '@scope/x': '~1.0.0' },
  peerDependencies: { '@lowbit/core': '>=1.0.0 <2.0.0' },
};
const files = new Set(['dist/index.d.ts', 'dist/index.js', 'dist/bin.js', 'package.json']);
const versions = new Map([
  ['@lowbit/one', '1.2.3'],
  ['@lowbit/two', '1.2.3'],
  ['@lowbit/core', '1.2.3'],
]);

describe('manifestProblems', () => {
  it('finds none in a manifest that is fit to be published', () => {
    expect(manifestProblems(good, files, versions)).toEqual([]);
  });

  it.each<[string, Partial<PackedManifest>, RegExp]>([
    [
      'a range of the workspace',
      { dependencies: { '@lowbit/two': 'workspace:^' } },
      /dependencies: @lowbit\/two is 'workspace:\^', which no/,
    ],
    ['a link', { peerDependencies: { zod: 'link:../zod' } }, /peerDependencies: zod is 'link:/],
    ['a version that is not published', { dependencies: { '@lowbit/two': '^1.2.2' } }, /is '\^1\.2\.2', and 1\.2\.3 is published with it/],
    ['a range beyond what is published', { peerDependencies: { '@lowbit/core': '>=1.2.4 <2.0.0' } }, /and 1\.2\.3 is published/],
    ['a range below what is published', { peerDependencies: { '@lowbit/core': '>=1.0.0 <1.2.3' } }, /and 1\.2\.3 is published/],
    ['a package that is not published', { dependencies: { '@lowbit/hidden': '^1.2.3' } }, /and none is published with it/],
    ['sources in place of what is built', { exports: './src/index.ts' }, /\.\/src\/index\.ts is named and not in the tarball/],
    ['a command that is not there', { bin: './bin.js' }, /\.\/bin\.js is named and not/],
    ['no access', { publishConfig: {} }, /publishConfig\.access/],
    ['no license', { license: '' }, /license/],
    ['a version that is none', { version: 'next' }, /version is 'next'/],
    ['no exports', { exports: undefined }, /no exports/],
    ['a private package', { private: true }, /private/],
  ])('finds %s', (_, change, problem) => {
    expect(manifestProblems({ ...good, ...change }, files, versions).join('\n')).toMatch(problem);
  });
});

// What is published is what pnpm makes of these.
it('every public package may be published for everyone, and shares one version', () => {
  const folders = ['packages', 'plugins'].flatMap((parent) => readdirSync(join(root, parent)).map((name) => join(root, parent, name)));
  const manifests = folders.map((folder) => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as PackedManifest);
  const published = manifests.filter((manifest) => manifest.private !== true);
  for (const { name, publishConfig } of published) expect(publishConfig, name).toMatchObject({ access: 'public' });
  expect(new Set(published.map(({ version }) => version)).size).toBe(1);
});
