// Names of the variants, on their own: the options' schema needs them, and variants need the options.
export const variantNames = ['none'] as const;

export type VariantName = (typeof variantNames)[number];
