// What all charts of the report have in common: size, axes and colours, which follow the page's theme.

import { svgOf } from '../vega-svg.js';
import { Html, html } from './html.js';

/** Colours are variables of colours.css: the browser resolves them, so that a chart changes with the theme. */
const config = {
  background: null,
  padding: 0,
  view: { stroke: null },
  axis: {
    ...{ labelColor: 'var(--muted)', titleColor: 'var(--muted)', gridColor: 'var(--grid)', domainColor: 'var(--axis)' },
    ...{ labelFontSize: 12, titleFontSize: 12, titleFontWeight: 'normal', ticks: false, domain: false, labelPadding: 6 },
  },
};

/** Draws a specification; what describes it to those who do not see it is `title`. */
export async function chart(specification: object, title: string): Promise<Html> {
  const svg = await svgOf({ $schema: 'https://vega.github.io/schema/vega-lite/v6.json', ...specification, config }, title);
  // A function: in a text, `$&` of a name would stand for what is replaced.
  return new Html(compact(svg).replace('<svg ', () => html`<svg role="group" aria-label="${title}" `.text));
}

/** Without what the page says once or nobody sees, which is half of what Vega writes. Nothing that is escaped is undone, and text stays as it is. */
function compact(svg: string): string {
  // Vega escapes angle brackets in text and in attributes.
  return svg.replace(/<[^<>]*>/g, (tag) => (/^<path class="(?:back|fore)ground"/.test(tag) ? '' : compactTag(tag)));
}

/** Attributes from the first on, one after the other: what looks like one within the value of another is left alone. */
function compactTag(tag: string): string {
  return tag.replace(/ ([\w:-]+)="([^"]*)"/g, (attribute, name: string, value: string) => {
    if (dropped.has(name) || (name === 'opacity' && value === '1')) return '';
    if (name === 'transform') return ` transform="${value.replace(/\d+\.\d{2,}/g, (number) => Number(number).toFixed(1))}"`;
    return name === 'xlink:href' ? ` href="${value}"` : attribute;
  });
}

const dropped = new Set(['xmlns', 'xmlns:xlink', 'version', 'font-family', 'role', 'aria-roledescription']);

/** For axes: ticks as they are given. Formats would round them to what the axis makes of its domain. */
export const labelExpr = "'' + datum.value";

/** Vega rounds nothing. */
export function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
