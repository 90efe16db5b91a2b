// What would keep a packed package from being published, or those who install it from using it; and a publish of it that is none.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** What a manifest says of where files are: paths, by conditions. */
type Targets = string | { readonly [condition: string]: Targets };

/** The package.json of a tarball. */
export interface PackedManifest {
  readonly name: string;
  readonly version: string;
  readonly license?: string;
  readonly description?: string;
  readonly private?: boolean;
  readonly publishConfig?: { readonly access?: string };
  readonly exports?: Targets;
  readonly bin?: Targets;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

/**
 * What is wrong with a manifest as it would be published: sentences.
 * @param files of the tarball, without 'package/'.
 * @param versions of all packages that are published together, by name: none may ask for one of them that will not be there.
 */
export function manifestProblems(
  manifest: PackedManifest,
  files: ReadonlySet<string>,
  versions: ReadonlyMap<string, string>,
): readonly string[] {
  const { name, version, license, description, publishConfig, exports, bin } = manifest;
  const problems: string[] = [];
  const demand = (holds: boolean, problem: string): void => void (holds || problems.push(problem));
  demand(manifest.private !== true, 'it is private');
  demand(/^@lowbit\/[a-z0-9-]+$/.test(name), `its name is '${name}'`);
  demand(/^\d+\.\d+\.\d+(?:-[\w.-]+)?$/.test(version), `its version is '${version}'`);
  demand(license === 'MIT' && (description ?? '') !== '', 'it has no license or description');
  // A name with an owner is taken for a private package by registries.
  demand(publishConfig?.access === 'public', 'publishConfig.access is not public');
  demand(exports !== undefined, 'it has no exports');
  for (const target of [...targetsOf(exports), ...targetsOf(bin)]) {
    demand(files.has(target.replace(/^\.\//, '')), `${target} is named and not in the tarball`);
  }
  for (const members of ['dependencies', 'peerDependencies', 'optionalDependencies'] as const) {
    for (const [other, range] of Object.entries(manifest[members] ?? {})) {
      demand(/^[\^~<>=\d*]/.test(range), `${members}: ${other} is '${range}', which no registry knows`);
      if (!other.startsWith('@lowbit/')) continue;
      const published = versions.get(other);
      const isThere = published !== undefined && takes(range, published);
      demand(isThere, `${members}: ${other} is '${range}', and ${published ?? 'none'} is published with it`);
    }
  }
  return problems;
}

/** Whether a range of the kinds that pnpm writes for packages of a workspace takes a version: '1.2.3', '^1.2.3', '>=1.2.3 <2.0.0'. */
function takes(range: string, version: string): boolean {
  return range.split(' ').every((part) => {
    const [, operator = '', bound = ''] = /^(\^|>=|<|)(\d.*)$/.exec(part) ?? [];
    if (operator === '>=' || operator === '<') return isBelow(version, bound) === (operator === '<');
    return bound === version;
  });
}

function isBelow(a: string, b: string): boolean {
  const parts = (version: string): number[] => version.split('-')[0].split('.').map(Number);
  const [left, right] = [parts(a), parts(b)];
  const at = left.findIndex((part, i) => part !== right[i]);
  return at >= 0 && left[at] < right[at];
}

function targetsOf(targets: Targets | undefined): string[] {
  if (targets === undefined) return [];
  return typeof targets === 'string' ? [targets] : Object.values(targets).flatMap(targetsOf);
}

/** Nobody answers there: a publish that is none must not need anybody. */
const NO_REGISTRY = 'http://127.0.0.1:9/';

/** Publishes a tarball without publishing it, and without a registry. Says what is wrong with the tarball. */
export async function publishProblems(tarball: string, versions: ReadonlyMap<string, string>): Promise<readonly string[]> {
  const { stdout: manifestText } = await execute('tar', ['-xzOf', tarball, 'package/package.json']);
  const { stdout: listing } = await execute('tar', ['-tzf', tarball]);
  const manifest = JSON.parse(manifestText) as PackedManifest;
  const files = new Set(
    listing
      .trim()
      .split('\n')
      .map((path) => path.replace(/^package\//, '')),
  );
  const problems = [...manifestProblems(manifest, files, versions)];
  const words = ['publish', '--dry-run', '--json', '--ignore-scripts', '--fetch-retries', '0', '--registry', NO_REGISTRY, tarball];
  try {
    const { stderr } = await execute('npm', words, { shell: process.platform === 'win32' });
    if (!stderr.includes('public access (dry-run)')) problems.push(`npm ${words.join(' ')}: would not publish it for everyone: ${stderr}`);
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string };
    problems.push(`npm ${words.join(' ')}: ${stderr || message}`);
  }
  return problems;
}
