// Numbers of a column, with as many decimals each that they can be compared.
import { type Html, html } from './html.js';

const DIGITS = 4;
const MOST_DECIMALS = 4;

/** Decimals that leave the least of some positive numbers two digits. */
export function decimalsFor(least: number): number {
  return Math.min(8, Math.max(0, 1 - Math.floor(Math.log10(least))));
}

/** A value and what it is uncertain by: no number or 0 where it is not. */
export interface Figure {
  readonly value: number;
  readonly error?: number | undefined;
}

/** How to write the numbers of a column, those that stand out in bold: of the middle one, four digits. */
export function columnOf(figures: readonly Figure[]): (figure: Figure, isBold?: boolean) => Html {
  const sizes = figures.map(({ value }) => Math.abs(value)).filter((size) => size > 0 && Number.isFinite(size));
  const middle = sizes.sort((a, b) => a - b)[Math.floor(sizes.length / 2)] ?? 1;
  const decimals = Math.min(MOST_DECIMALS, Math.max(0, DIGITS - 1 - Math.floor(Math.log10(middle))));
  const write = (value: number): string =>
    Math.abs(value) >= 1e6
      ? value.toExponential(2)
      : value
          .toFixed(decimals)
          .replace(/^-(?=[0.]+$)/, '')
          .replace('-', '−');
  // An error that all decimals hide is left out.
  const writeError = (error = 0): string => (Number(write(error)) > 0 ? `±${write(error)}` : '');
  const width = Math.max(0, ...figures.map(({ error }) => writeError(error).length));
  return ({ value, error }, isBold = false) => {
    const number = isBold ? html`<b>${write(value)}</b>` : write(value);
    if (width === 0) return html`${number}`;
    return html`${number}<span class="error" style="min-width:${width + 0.5}ch">${writeError(error)}</span>`;
  };
}
