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
  return new Html(compact(svg).replace('<svg ', html`<svg role="group" aria-label="${title}" `.text));
}

/** Without what the page says once or nobody sees, which is half of what Vega writes. Nothing that is escaped is undone. */
function compact(svg: string): string {
  return svg
    .replace(/<path class="(?:back|fore)ground"[^>]*\/>/g, '')
    .replace(/ (?:xmlns|xmlns:xlink|version|font-family|role|aria-roledescription)="[^"]*"| opacity="1"/g, '')
    .replace(/ transform="[^"]*"/g, (transform) => transform.replace(/\d+\.\d{2,}/g, (number) => Number(number).toFixed(1)))
    .replaceAll('xlink:href=', 'href=');
}

/** For axes: ticks as they are given. Formats would round them to what the axis makes of its domain. */
export const labelExpr = "'' + datum.value";

/** Vega rounds nothing. */
export function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
