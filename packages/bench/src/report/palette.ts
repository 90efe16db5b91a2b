// How methods look: a colour and a shape each, so that nobody depends on the colours.
import { type Html, html } from './html.js';

/** Paths in a square from -1 to 1. */
const shapes = [
  'M1,0A1,1,0,1,1,-1,0A1,1,0,1,1,1,0Z',
  'M-0.89,-0.89H0.89V0.89H-0.89Z',
  'M0,-1.15L1.1,0.8H-1.1Z',
  'M0,-1.25L1.1,0L0,1.25L-1.1,0Z',
  'M0,1.15L1.1,-0.8H-1.1Z',
  'M-0.4,-1.1H0.4V-0.4H1.1V0.4H0.4V1.1H-0.4V0.4H-1.1V-0.4H-0.4Z',
  'M-1.15,0L0.8,-1.1V1.1Z',
] as const;

/** Variables of colours.css: Okabe and Ito's colours, darker on white and lighter on black. */
const COLOURS = 8;

export interface Look {
  /** CSS. */
  readonly colour: string;
  /** SVG path. */
  readonly shape: string;
}

/** Methods in the order in which they come; the dense model has none of the colours. */
export function looksOf(methods: readonly string[]): Map<string, Look> {
  return new Map(methods.map((method, i) => [method, { colour: `var(--c${i % COLOURS})`, shape: shapes[i % shapes.length] }]));
}

export const denseLook: Look = { colour: 'var(--muted)', shape: shapes[0] };

/** The symbol of a method, as it is in charts. */
export function symbol({ colour, shape }: Look): Html {
  return html`<svg class="symbol" viewBox="-1.5 -1.5 3 3" aria-hidden="true"><path d="${shape}" fill="${colour}"/></svg>`;
}
