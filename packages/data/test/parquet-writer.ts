// Parquet files of text columns for tests, as the format's description has them: plain pages without compression, one for each group of rows.

const TYPES = { i32: 5, i64: 6, binary: 8, list: 9, struct: 12 } as const;
type Type = keyof typeof TYPES;
/** A field of a struct in Thrift's compact protocol: number, type, bytes. */
type Field = readonly [number, Type, Buffer];

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let left = value;
  for (; left >= 128; left = Math.floor(left / 128)) bytes.push((left % 128) + 128);
  return Buffer.from([...bytes, left]);
}

const integer = (value: number): Buffer => varint(value * 2); // zigzag, of what is not negative
const text = (value: string): Buffer => Buffer.concat([varint(Buffer.byteLength(value)), Buffer.from(value)]);
const list = (type: Type, items: readonly Buffer[]): Buffer =>
  Buffer.concat([
    items.length < 15 ? Buffer.of(items.length * 16 + TYPES[type]) : Buffer.concat([Buffer.of(0xf0 + TYPES[type]), varint(items.length)]),
    ...items,
  ]);
const struct = (fields: readonly Field[]): Buffer =>
  Buffer.concat([
    ...fields.flatMap(([id, type, bytes], i) => [Buffer.of((id - (fields[i - 1]?.[0] ?? 0)) * 16 + TYPES[type]), bytes]),
    Buffer.of(0),
  ]);

/** Values of a column in a group of rows. */
type Column = readonly (string | null)[];

function page(values: Column): Buffer {
  // Runs of one: whether each value is there.
  const levels = Buffer.concat(values.map((value) => Buffer.of(2, value === null ? 0 : 1)));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(levels.length);
  const plain = values.flatMap((value) => {
    if (value === null) return [];
    const size = Buffer.alloc(4);
    size.writeUInt32LE(Buffer.byteLength(value));
    return [size, Buffer.from(value)];
  });
  const body = Buffer.concat([length, levels, ...plain]);
  const data = struct([
    [1, 'i32', integer(values.length)],
    [2, 'i32', integer(0)],
    [3, 'i32', integer(3)],
    [4, 'i32', integer(3)],
  ]);
  const header = struct([
    [1, 'i32', integer(0)],
    [2, 'i32', integer(body.length)],
    [3, 'i32', integer(body.length)],
    [5, 'struct', data],
  ]);
  return Buffer.concat([header, body]);
}

/** A file of groups of rows, each with the same columns. `codec` is what it says it is compressed with: 0 is nothing, 3 is LZO. */
export function parquetOf(groups: readonly Readonly<Record<string, Column>>[], codec = 0): Buffer {
  const parts: Buffer[] = [Buffer.from('PAR1')];
  let offset = 4;
  const rowGroups = groups.map((columns) => {
    const chunks = Object.entries(columns).map(([name, values]) => {
      const bytes = page(values);
      const meta = struct([
        [1, 'i32', integer(6)],
        [2, 'list', list('i32', [integer(0)])],
        [3, 'list', list('binary', [text(name)])],
        [4, 'i32', integer(codec)],
        [5, 'i64', integer(values.length)],
        [6, 'i64', integer(bytes.length)],
        [7, 'i64', integer(bytes.length)],
        [9, 'i64', integer(offset)],
      ]);
      parts.push(bytes);
      const chunk = struct([
        [2, 'i64', integer(offset)],
        [3, 'struct', meta],
      ]);
      offset += bytes.length;
      return chunk;
    });
    return struct([
      [1, 'list', list('struct', chunks)],
      [2, 'i64', integer(0)],
      [3, 'i64', integer(Object.values(columns)[0].length)],
    ]);
  });
  const names = Object.keys(groups[0]);
  const root = struct([
    [4, 'binary', text('schema')],
    [5, 'i32', integer(names.length)],
  ]);
  const leaves = names.map((name) =>
    struct([
      [1, 'i32', integer(6)],
      [3, 'i32', integer(1)],
      [4, 'binary', text(name)],
      [6, 'i32', integer(0)],
    ]),
  );
  const footer = struct([
    [1, 'i32', integer(1)],
    [2, 'list', list('struct', [root, ...leaves])],
    [3, 'i64', integer(groups.reduce((sum, columns) => sum + Object.values(columns)[0].length, 0))],
    [4, 'list', list('struct', rowGroups)],
  ]);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(footer.length);
  return Buffer.concat([...parts, footer, length, Buffer.from('PAR1')]);
}
