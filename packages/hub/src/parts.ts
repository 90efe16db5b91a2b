// Files of a dataset that are parts of one: 'train-00000-of-00002.parquet', or with a hash, 'train-00000-of-00002-0a1b….parquet'.

/** What comes before the number of a part, its number, how many there are, what a name of its own adds, and what it ends with. */
const PART = /^(.*-)(\d{5})-of-(\d{5})(-[^./]*)?(\.[^/]*)?$/;

/**
 * Files, and the names of the parts that they say are missing: who wants all of a split must not take what is there for the whole.
 * What a hash in such a name is cannot be known: it is '*'.
 */
export function withAbsentParts(files: readonly string[]): string[] {
  const numbers = new Map<string, Set<number>>();
  for (const file of files) {
    const [, before, number, count, own, ending = ''] = PART.exec(file) ?? [];
    if (count === undefined) continue;
    const name = `${before}#-of-${count}${own === undefined ? '' : '-*'}${ending}`;
    numbers.set(name, (numbers.get(name) ?? new Set()).add(Number(number)));
  }
  const absent = [...numbers].flatMap(([name, present]) => {
    const [, count] = /#-of-(\d{5})/.exec(name) ?? [];
    return Array.from({ length: Number(count) }, (_, i) => i)
      .filter((i) => !present.has(i))
      .map((i) => name.replace('#', String(i).padStart(5, '0')));
  });
  return [...files, ...absent].sort();
}
