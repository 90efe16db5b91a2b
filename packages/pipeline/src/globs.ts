// Globs over dotted Linear paths: 'model.layers.*.mlp.*', '**.down_proj', 'model.layers.{0..3}.**'.
import { LowbitError } from '@lowbit/core';
import picomatch from 'picomatch';

/** '{8..12}' as alternatives; picomatch by itself would make the character class [8-12] of it. */
function expandRange(from: string, to: string): string {
  const [low, high] = [Number(from), Number(to)].sort((a, b) => a - b);
  return Number.isInteger(low) && Number.isInteger(high)
    ? `(${Array.from({ length: high - low + 1 }, (_, i) => low + i).join('|')})`
    : `[${from}-${to}]`;
}

/** Dots separate names in paths as slashes do in files; the two dots of a range stay. */
function slashed(text: string): string {
  return text.replace(/(?<!\.)\.(?!\.)/g, '/');
}

/**
 * Whether a dotted path fits the glob. `*` stays within one name, `**` crosses dots.
 * @throws GLOB_INVALID for a glob that cannot be read.
 */
export function compileGlob(glob: string): (path: string) => boolean {
  if (glob.trim() === '') throw new LowbitError('GLOB_INVALID', `'${glob}' is an empty glob; write '**' for every Linear`);
  try {
    const matches = picomatch(slashed(glob), { dot: true, nonegate: true, expandRange });
    return (path) => matches(slashed(path));
  } catch (cause) {
    throw new LowbitError('GLOB_INVALID', `'${glob.slice(0, 80)}' cannot be read as a glob: ${String(cause)}`, { cause });
  }
}
