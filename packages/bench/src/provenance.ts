// Which code produced a number.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Backend } from '@lowbit/core';
import type { Provenance } from './row.js';

const here = dirname(fileURLToPath(import.meta.url));

/** Versions of our package, of Node and of the engine, and the commit of the checkout that this file lies in. */
export function provenanceOf(backend: Backend): Provenance {
  const versions: Record<string, string> = { '@lowbit/bench': ownVersion(), node: process.versions.node };
  const engine = engineVersion();
  if (engine !== undefined) versions['onnxruntime-node'] = engine;
  return { versions, backend: backend.name, commit: commitOf(here) };
}

function ownVersion(): string {
  return versionIn(join(here, '..', 'package.json')) ?? 'unknown';
}

/** The engine is a dependency of the backend package, not of ours: look from there. */
function engineVersion(): string | undefined {
  try {
    const fromBackend = createRequire(import.meta.resolve('@lowbit/backend-onnxruntime'));
    let folder = dirname(fromBackend.resolve('onnxruntime-node'));
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
