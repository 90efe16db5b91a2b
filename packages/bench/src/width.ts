// What recipes are compared within: the bits of weights, and of inputs where they are quantized too.

export interface Width {
  /** '4', 'W4A4'. */
  readonly label: string;
  /** '4 bits', 'W4A4'. */
  readonly name: string;
  /** Larger for more bits. */
  readonly order: number;
}

/** Of weights that lie between widths, the nearest one. */
export function widthOf(weightBits: number, activationBits: number | undefined): Width {
  const bits = Math.round(weightBits);
  if (activationBits === undefined) return { label: `${bits}`, name: `${bits} bits`, order: bits };
  const label = `W${bits}A${activationBits}`;
  return { label, name: label, order: bits - 0.5 + activationBits / 100 };
}
