// Text as Python's string methods treat it, where JavaScript's differ: the texts of tasks must be the same to the character.

/** What str.strip takes away: Unicode white space and four control characters, not the byte order mark that JavaScript trims. */
const SPACE = '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]';
const LEADING = new RegExp(`^${SPACE}+`);
const TRAILING = new RegExp(`${SPACE}+$`);

export const stripStart = (text: string): string => text.replace(LEADING, '');
export const stripEnd = (text: string): string => text.replace(TRAILING, '');
export const strip = (text: string): string => stripStart(stripEnd(text));

/** The first character as a capital, the others small. */
export function capitalize(text: string): string {
  const [first = ''] = text;
  return first.toUpperCase() + text.slice(first.length).toLowerCase();
}

/** Code points, as len counts them. */
export function lengthOf(text: string): number {
  return [...text].length;
}
