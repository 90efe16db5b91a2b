import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { corpusOf, cutOf, partOf, readJsonlFile, readTextFile, sotuCorpus } from '../src/index.js';

const sha256 = (bytes: string | Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describe('corpusOf', () => {
  it('hashes the documents and the places where they are cut', () => {
    expect(corpusOf(['abc']).sha256).toBe(sha256('abc'));
    expect(corpusOf(['ab', 'c']).sha256).toBe(sha256(Uint8Array.of(97, 98, 0xff, 99)));
    expect(corpusOf(['ab', 'c']).sha256).not.toBe(corpusOf(['a', 'bc']).sha256);
  });

  it('leaves out texts without content, and refuses to be empty', () => {
    expect(corpusOf(['', ' \n', 'x']).documents).toEqual(['x']);
    expect(() => corpusOf(['', ' '], { name: 'nothing' })).toThrow(/CORPUS_EMPTY: nothing.*2 read/);
  });
});

describe('partOf', () => {
  const corpus = corpusOf(Array.from({ length: 25 }, (_, i) => `document ${i}`));

  it('divides without overlap or loss', () => {
    const [train, held] = [partOf(corpus, 'train'), partOf(corpus, 'held-out')];
    expect(held.documents).toEqual(['document 9', 'document 19']);
    expect([...train.documents, ...held.documents].sort()).toEqual([...corpus.documents].sort());
    expect(train.split).toBe('train');
    expect(new Set([corpus.sha256, train.sha256, held.sha256]).size).toBe(3);
    expect(partOf(corpus, 'all')).toBe(corpus);
  });

  it('refuses an empty part', () => {
    expect(() => partOf(corpusOf(['one']), 'held-out')).toThrow(/CORPUS_EMPTY/);
    expect(() => partOf(corpus, 'train', 1)).toThrow(/OPTIONS_INVALID/);
  });
});

describe('cutOf', () => {
  const corpus = corpusOf([Array.from({ length: 200 }, (_, i) => `word${i}`).join(' '), 'a short one of six words']);

  it('divides each document at white space, without overlap or loss', () => {
    const [train, held] = [cutOf(corpus, 'train'), cutOf(corpus, 'held-out')];
    expect(train.documents.map((text, i) => text + (held.documents[i] ?? ''))).toEqual(corpus.documents);
    expect(held.documents[0]).toMatch(/^ word\d+ .*word199$/);
    expect(held.documents[0].length / corpus.documents[0].length).toBeCloseTo(0.1, 1);
    expect(new Set([corpus.sha256, train.sha256, held.sha256]).size).toBe(3);
    expect(held).toMatchObject({ split: 'held-out', rule: 'as given; last 10th of each document held out' });
    expect(cutOf(corpus, 'all')).toBe(corpus);
  });

  it('refuses an empty part', () => {
    expect(() => cutOf(corpusOf(['one']), 'held-out')).toThrow(/CORPUS_EMPTY/);
    expect(() => cutOf(corpus, 'train', 1)).toThrow(/OPTIONS_INVALID/);
  });
});

describe('files', () => {
  let directory: string;
  const file = async (name: string, content: string | Uint8Array) => {
    const path = join(directory, name);
    await writeFile(path, content);
    return path;
  };
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lowbit-corpus-'));
  });
  afterAll(() => rm(directory, { recursive: true }));

  it('reads text whole, by line, by blank lines and by expression', async () => {
    const text = 'One\nand more.\n\n \nTwo.\r\n\r\nOnce three.\n';
    const path = await file('text.txt', text);
    expect(await readTextFile(path)).toMatchObject({ name: 'text.txt', rule: 'whole', documents: [text], sha256: sha256(text) });
    expect((await readTextFile(path, { rule: 'lines' })).documents).toEqual(['One', 'and more.', 'Two.', 'Once three.']);
    expect((await readTextFile(path, { rule: 'blank-lines', name: 'mine' })).documents).toEqual([
      'One\nand more.',
      'Two.',
      'Once three.\n',
    ]);
    const ahead = await readTextFile(path, { rule: /(?=\r\n(\r\n)Once)/ });
    expect(ahead.documents).toEqual(['One\nand more.\n\n \nTwo.', '\r\n\r\nOnce three.\n']);
    expect(ahead.rule).toContain('Once');
  });

  it('says what is wrong with a text file', async () => {
    await expect(readTextFile(join(directory, 'absent.txt'))).rejects.toThrow(/CORPUS_MISSING.*absent.txt: no such file/);
    await expect(readTextFile(directory)).rejects.toThrow(/CORPUS_MISSING.*cannot be read/);
    await expect(readTextFile(await file('empty.txt', '\n'))).rejects.toThrow(/CORPUS_EMPTY/);
    await expect(readTextFile(await file('latin1.txt', Uint8Array.of(0x63, 0xe9, 0x20)))).rejects.toThrow(/CORPUS_ENCODING.*UTF-8/);
  });

  it('reads JSON Lines by field path', async () => {
    const path = await file('rows.jsonl', '{"text":"a","m":[{"content":"x"}]}\r\n\n{"text":"b","m":[{"content":"y"}]}\n');
    expect((await readJsonlFile(path)).documents).toEqual(['a', 'b']);
    expect(await readJsonlFile(path, { field: 'm.0.content' })).toMatchObject({
      documents: ['x', 'y'],
      rule: "field 'm.0.content' of each line",
    });
  });

  it('names file and line of a bad row', async () => {
    await expect(readJsonlFile(await file('bad.jsonl', '{"text":"a"}\n\n{"text":\n'))).rejects.toThrow(
      /CORPUS_JSONL.*bad.jsonl:3: is not JSON/,
    );
    const path = await file('fields.jsonl', '{"title":"a","n":1,"o":{"p":"q"}}\n');
    await expect(readJsonlFile(path)).rejects.toThrow(/CORPUS_JSONL.*fields.jsonl:1: no field 'text'.*has title, n, o/);
    await expect(readJsonlFile(path, { field: 'n' })).rejects.toThrow(/is number, not a string/);
    await expect(readJsonlFile(path, { field: 'n.x' })).rejects.toThrow(/'x' is missing; the object there is 1/);
    await expect(readJsonlFile(path, { field: 'o.toString' })).rejects.toThrow(/no field/);
    await expect(readJsonlFile(await file('none.jsonl', '\n'))).rejects.toThrow(/CORPUS_EMPTY/);
    await expect(readJsonlFile(join(directory, 'absent.jsonl'))).rejects.toThrow(/CORPUS_MISSING/);
  });
});

describe('sotuCorpus', () => {
  it('is the same corpus everywhere, in two parts that share no speech', async () => {
    const [all, train, held] = await Promise.all([sotuCorpus(), sotuCorpus('train'), sotuCorpus('held-out')]);
    expect(all.documents.length).toBe(233);
    expect(held.documents.length).toBe(23);
    expect(train.documents.length).toBe(210);
    const known = new Set(train.documents);
    expect(held.documents.some((speech) => known.has(speech))).toBe(false);
    expect(all.documents[0]).toMatch(/^Fellow-Citizens/);
    expect(all.sha256).toMatchInlineSnapshot(`"b937867835374ba196b6f56d9912b908629dd6b6dabe0dcc4c2ec2637ecdffbb"`);
  });
});
