// Which code produced a number.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Backend } from '@lowbit/core';
import type { Provenance } from './row.js';

const here = dirname(fileURLToPath(import.meta.url));

/** Versions of our package, of Node and of the engine, and the commit of the checkout that this file lies in. */
export function provenanceOf(backend: Backend): Provenance {
  return { versions: versions(backend.name), backend: backend.fingerprint, commit: commitOf(here) };
}

/** What computes here, with this backend, for people: '@lowbit/bench 0.1.0, node 20.19.0, onnxruntime-node 1.24.1, onnxruntime:cpu'. */
export function describeCode(backend: string): string {
  return [...Object.entries(versions(backend)).map(([name, version]) => `${name} ${version}`), backend].join(', ');
}

/** The queue of cells of this backend: only who computes what this process would compute takes them, and finds what is left of them. */
export function queueName(backend: string): string {
  return `lowbit-bench-${createHash('sha256').update(describeCode(backend)).digest('hex').slice(0, 12)}`;
}

function versions(backend: string): Record<string, string> {
  const isTfjs = backend.startsWith('tfjs:');
  const name = isTfjs ? '@tensorflow/tfjs-core' : 'onnxruntime-node';
  const engine = engineVersion(name, isTfjs ? '@lowbit/backend-tfjs' : '@lowbit/backend-onnxruntime');
  return {
    '@lowbit/bench': ownVersion(),
    node: process.versions.node,
    ...(engine !== undefined && { [name]: engine }),
  };
}

function ownVersion(): string {
  return versionIn(join(here, '..', 'package.json')) ?? 'unknown';
}

/** The engine is a dependency of the backend package, not of ours: look from there. */
function engineVersion(name: string, user: string): string | undefined {
  try {
    const fromBackend = createRequire(import.meta.resolve(user));
    let folder = dirname(fromBackend.resolve(name));
    while (!existsSync(join(folder, 'package.json')) || versionIn(join(folder, 'package.json')) === undefined) {
      const parent = dirname(folder);
      if (parent === folder) return undefined;
      folder = parent;
    }
    return versionIn(join(folder, 'package.json'));
  } catch {
    return undefined;
  }
}

function versionIn(manifest: string): string | undefined {
  return (JSON.parse(readFileSync(manifest, 'utf8')) as { version?: string }).version;
}

/** Null when git is missing or the folder is not in a checkout of ours (an installed package lies in node_modules). */
function commitOf(folder: string): string | null {
  if (folder.includes('node_modules')) return null;
  const git = (...args: string[]): string =>
    execFileSync('git', args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    return `${git('rev-parse', 'HEAD')}${git('status', '--porcelain', '--untracked-files=no') === '' ? '' : '+'}`;
  } catch {
    return null;
  }
}
