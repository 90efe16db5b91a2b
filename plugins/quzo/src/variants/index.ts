// Published changes of the method: each replaces some of its functions.
import type { Hooks } from '../hooks.js';
import type { QuzoOptions } from '../options.js';
import type { VariantName } from './names.js';

/** What a variant replaces, given the options and what they make without it. */
export type Variant = (options: QuzoOptions, base: Hooks) => Partial<Hooks>;

export const variants: Readonly<Record<VariantName, Variant>> = {
  none: () => ({}),
};
