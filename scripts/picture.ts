// Draws what a command printed as an SVG of a terminal: `tsx scripts/picture.ts runs/demo/results.md "pnpm demo" docs/images/demo.svg`.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

const [source, command, target] = process.argv.slice(2);
if (source === undefined || command === undefined || target === undefined) {
  console.error('usage: tsx scripts/picture.ts <printed text> <command that printed it> <svg to write>');
  process.exit(2);
}

const CHARACTER_WIDTH = 7.25;
const LINE_HEIGHT = 17;
const FONT_SIZE = 12;
const MARGIN = 16;
const TITLE_HEIGHT = 28;
const colors = { ground: '#16181d', title: '#22252c', text: '#d6d9de', prompt: '#8bc47d', rule: '#5b616d' };

const lines = [`$ ${command}`, ...readFileSync(source, 'utf8').trimEnd().split('\n')];
const width = Math.ceil(2 * MARGIN + CHARACTER_WIDTH * Math.max(...lines.map((line) => line.length)));
const height = TITLE_HEIGHT + 2 * MARGIN + LINE_HEIGHT * lines.length;

const escape = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
const colorOf = (line: string): string => (line.startsWith('$') ? colors.prompt : /^\|[ |:-]+\|$/.test(line) ? colors.rule : colors.text);
// One <text> a line; textLength keeps columns aligned whatever monospaced font the reader has.
const drawn = lines.map((line, i) => {
  const y = TITLE_HEIGHT + MARGIN + LINE_HEIGHT * (i + 0.8);
  const length = (CHARACTER_WIDTH * line.length).toFixed(1);
  return line === ''
    ? ''
    : `  <text x="${MARGIN}" y="${y.toFixed(1)}" fill="${colorOf(line)}" textLength="${length}" xml:space="preserve">${escape(line)}</text>`;
});
const dots = ['#e0645c', '#dfae4c', '#62b867'].map(
  (color, i) => `  <circle cx="${MARGIN + 18 * i}" cy="${TITLE_HEIGHT / 2}" r="5" fill="${color}"/>`,
);
const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="${FONT_SIZE}">
  <title>Output of ${escape(command)}</title>
  <rect width="${width}" height="${height}" rx="8" fill="${colors.ground}"/>
  <path d="M0 8a8 8 0 0 1 8-8h${width - 16}a8 8 0 0 1 8 8v${TITLE_HEIGHT - 8}H0z" fill="${colors.title}"/>
${[...dots, ...drawn].filter((line) => line !== '').join('\n')}
</svg>
`;
mkdirSync(dirname(target), { recursive: true });
writeFileSync(target, svg);
