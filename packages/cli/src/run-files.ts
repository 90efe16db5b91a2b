// Files that methods write of a run: log records with the name of a file and its lines go beside the checkpoint.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunEvent } from '@lowbit/core';
import type { SideFile } from '@lowbit/formats';

export interface RunFiles {
  event(event: RunEvent): void;
  /** By name, a JSON object a line. A name that several steps of a recipe use has their numbers, counted from 0, from the second on. */
  files(): ReadonlyMap<string, SideFile>;
  /** Writes them where no checkpoint came to be, under names that no checkpoint's files have. @returns the paths. */
  leave(directory: string): Promise<string[]>;
}

export function createRunFiles(): RunFiles {
  const files = new Map<string, { readonly step: number; readonly file: SideFile }>();
  return {
    event(event) {
      if (event.type !== 'log') return;
      const { file: name, lines } = event.record;
      if (typeof name !== 'string' || !Array.isArray(lines)) return;
      const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
      const known = files.get(name);
      const free = known === undefined || known.step === event.step ? name : name.replace(/(?=\.[^.]*$|$)/, `-${event.step}`);
      files.set(free, { step: event.step, file: { read: async () => Buffer.from(text) } });
    },
    files: () => new Map([...files].map(([name, { file }]) => [name, file])),
    async leave(directory) {
      const paths: string[] = [];
      for (const [name, { file }] of files) {
        paths.push(join(directory, `interrupted-${name}`));
        await writeFile(paths[paths.length - 1], await file.read());
      }
      return paths;
    },
  };
}
