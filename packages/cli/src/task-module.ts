// Modules of ours that run as processes of their own.
import { createRequire } from 'node:module';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { TaskModule } from '@lowbit/bench';

/** A module beside this one, built or not, and where it runs. */
export function taskModule(name: string, words: readonly string[], directory: string): TaskModule {
  const own = fileURLToPath(import.meta.url);
  const type = extname(own);
  // Sources run unbuilt, whatever this process was started with.
  const nodeOptions = type === '.ts' ? ['--import', pathToFileURL(createRequire(own).resolve('tsx')).href] : [];
  return { path: join(dirname(own), `${name}${type}`), arguments: words, nodeOptions, directory };
}
