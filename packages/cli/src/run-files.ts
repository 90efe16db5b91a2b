// Files of a run beside the checkpoint: the table of its layers, and what methods log with the name of a file and its lines.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunEvent } from '@lowbit/core';
import type { SideFile } from '@lowbit/formats';
import { createLayerTable, LAYER_TABLE } from './layer-table.js';

export interface RunFiles {
  event(event: RunEvent): void;
  /**
   * By name: `layers.csv` with a line for each Linear that was quantized; of methods, a JSON object a line. A name that several steps of a recipe
   * use has their numbers, counted from 0, from the second on.
   */
  files(): ReadonlyMap<string, SideFile>;
  /** Writes those of methods where no checkpoint came to be, under names that no checkpoint's files have. @returns the paths. */
  leave(directory: string): Promise<string[]>;
}

export function createRunFiles(): RunFiles {
  const files = new Map<string, { readonly step: number; readonly file: SideFile }>();
  const layers = createLayerTable();
  return {
    event(event) {
      layers.event(event);
      if (event.type !== 'log') return;
      const { file: name, lines } = event.record;
      if (typeof name !== 'string' || !Array.isArray(lines)) return;
      const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
      const known = files.get(name);
      const free = known === undefined || known.step === event.step ? name : name.replace(/(?=\.[^.]*$|$)/, `-${event.step}`);
      files.set(free, { step: event.step, file: { read: async () => Buffer.from(text) } });
    },
    files() {
      const text = layers.text();
      const table: [string, SideFile][] = text === undefined ? [] : [[LAYER_TABLE, { read: async () => Buffer.from(text) }]];
      return new Map([...table, ...[...files].map(([name, { file }]): [string, SideFile] => [name, file])]);
    },
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
