import { createRng, read } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type CalibrationOptions, corpusOf, describeCalibration, sampleCalibration, type Tokenizer } from '../src/index.js';

/** Documents are numbers in text: every number is one token. 0 is BOS. */
const numbers: Tokenizer = {
  vocabularySize: 1e6,
  bosToken: 0,
  eosToken: undefined,
  addsBos: false,
  encode: (text, { bos = false } = {}) => Int32Array.from([...(bos ? [0] : []), ...text.split(' ').map(Number)]),
  decode: (ids) => Array.from(ids).join(' '),
};

/** Documents of the given lengths whose tokens are all different. */
function documents(lengths: readonly number[]) {
  let next = 1;
  return corpusOf(
    lengths.map((length) => Array.from({ length }, () => next++).join(' ')),
    { name: 'numbers' },
  );
}

async function sample(lengths: readonly number[], options: Partial<CalibrationOptions>) {
  const { batches, report } = sampleCalibration(documents(lengths), numbers, { windows: 4, window: 8, rng: createRng(7), ...options });
  const ids: number[] = [];
  for (let i = 0; i < batches.length; i++) ids.push(...(await read(await batches.at(i))));
  return { batches, report, ids };
}

describe('sampleCalibration', () => {
  it('keeps what was asked for, never a token twice, from windows that fit their document', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 4, maxLength: 12 }),
        fc.integer({ min: 1, max: 6 }),
        async (lengths, windows) => {
          const total = lengths.reduce((a, b) => a + b, 0);
          fc.pre(total >= 8 * windows + 8);
          const { report, ids } = await sample(lengths, { windows, minimumWindows: 1 });
          // Nothing but the end of the joined remainders can be lost.
          expect(report.kept).toBe(windows);
          expect(ids.length).toBe(report.tokens);
          expect(new Set(ids).size).toBe(ids.length);
        },
      ),
    );
  });

  it('takes one window of each document before a second of any', async () => {
    const { ids, report } = await sample([40, 40, 40, 40], {});
    const sources = [0, 8, 16, 24].map((start) => Math.floor((ids[start] - 1) / 40));
    expect(sources.sort()).toEqual([0, 1, 2, 3]);
    expect(report).toMatchObject({ requested: 4, kept: 4, tokens: 32, documentsRead: 4, documentsConcatenated: 0, dropped: [] });
  });

  it('encodes of a long document only the sections it takes windows from', () => {
    const corpus = documents([5000]);
    const encoded: string[] = [];
    const tokenizer: Tokenizer = {
      ...numbers,
      encode(text, options) {
        encoded.push(text);
        return numbers.encode(text.trim(), options);
      },
    };
    const { report } = sampleCalibration(corpus, tokenizer, { windows: 4, window: 8, rng: createRng(1), bos: true });
    expect(report).toMatchObject({ kept: 4, documentsRead: 1 });
    expect(encoded.length).toBe(4);
    expect(encoded.join('').length).toBeLessThan(corpus.documents[0].length / 20);
    const all = sampleCalibration(corpus, numbers, { windows: 625, window: 8, rng: createRng(1), bos: false });
    expect(all.report.kept).toBe(625);
  });

  it('is the same for the same seed and another for another', async () => {
    const lengths = Array.from({ length: 30 }, (_, i) => 5 + i);
    const [a, b, c] = [await sample(lengths, {}), await sample(lengths, {}), await sample(lengths, { rng: createRng(8) })];
    expect(a.batches.hash).toBe(b.batches.hash);
    expect(a.batches.hash).not.toBe(c.batches.hash);
  });

  it('puts BOS before each document', async () => {
    const { ids } = await sample([7, 7, 7, 7], { bos: true });
    expect(ids.filter((id) => id === 0).length).toBe(4);
    expect(ids[0]).toBe(0);
  });

  it('counts what it drops and says when there is less than asked for', async () => {
    const { report } = await sample([3, 20, 5, 9], { shortDocuments: 'drop' });
    expect(report).toMatchObject({
      requested: 4,
      kept: 3,
      documentsRead: 4,
      dropped: [{ reason: 'shorter than a window', documents: 2, tokens: 8 }],
    });
    expect(describeCalibration(report)).toBe(
      'numbers all: 4 windows of 8 tokens requested, 3 kept (the corpus has no more), 24 tokens; 4 of 4 documents read; dropped: 2 documents (8 tokens) shorter than a window',
    );
    const joined = await sample([3, 20, 5, 9], {});
    expect(joined.report).toMatchObject({ kept: 4, documentsConcatenated: 2, dropped: [] });
    expect(describeCalibration(joined.report)).toContain(
      '4 kept, 32 tokens; 4 of 4 documents read, 2 of them short and put together; dropped: nothing',
    );
  });

  it('fails below the floor and for sizes that make no sense', async () => {
    await expect(sample([9], {})).rejects.toThrow(/CALIBRATION_SHORT: numbers all: only 1 of 4 windows of 8 tokens.*at least 2/);
    await expect(sample([5, 5, 5, 5], { shortDocuments: 'drop', minimumWindows: 1 })).rejects.toThrow(/4 documents are shorter/);
    for (const wrong of [{ windows: 0 }, { window: 1 }, { batch: 0 }, { windows: 2.5 }, { minimumWindows: 0 }]) {
      await expect(sample([100], wrong)).rejects.toThrow(/OPTIONS_INVALID/);
    }
  });
});
