// Markdown tables as text, and numbers in them.

/** 4 significant digits, and no exponent where people expect none. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-4)) return value.toExponential(2);
  return size >= 1000 ? value.toFixed(0) : Number(value.toPrecision(4)).toString();
}

/** Columns padded to equal width, so that the table reads in a terminal as well: the first `textColumns` to the left, numbers to the right. */
export function layOutTable(header: readonly string[], body: readonly (readonly string[])[], textColumns: number): string {
  const widths = header.map((title, column) => Math.max(title.length, 3, ...body.map((cells) => cells[column].length)));
  const isText = (column: number): boolean => column < textColumns;
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, i) => (isText(i) ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join(' | ')} |`;
  const rule = `| ${widths.map((width, i) => (isText(i) ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`;
  return [line(header), rule, ...body.map(line)].join('\n');
}
