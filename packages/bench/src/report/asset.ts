// Style sheets and scripts of pages and pictures.
import { readFileSync } from 'node:fs';

/** Of the package's sources, which are published beside what is built from them. */
export function asset(name: string): string {
  return readFileSync(new URL(`../../src/report/${name}`, import.meta.url), 'utf8');
}
