// Points in the space of weights: distances, what lies between them, and radii read off losses.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, type Model, readFloats, tensorsOf } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { rtn } from '@lowbit/rtn';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { gapAtRadius, type Place, radiusAtGap } from '../src/experiments/lines.js';
import { planeThrough } from '../src/experiments/plane.js';
import { distanceOf, innerProduct, mix, modelAt, normOf, type Point, pointOf, randomPoint } from '../src/experiments/weight-space.js';

const backend = createReferenceBackend();
const dense = createToyModel({ biases: true });
let quantized: Model;
let origin: Point;
let end: Point;
beforeAll(async () => {
  quantized = (await quantize({ model: dense, backend, recipe: [rtn({ bits: 2, groupSize: 16 })] })).model;
  origin = await pointOf(dense, backend);
  end = await pointOf(quantized, backend);
});

async function logitsOf(model: Model): Promise<Float32Array> {
  const tokens = await createToyTokens().at(0);
  const [logits] = await backend.evaluate([model.forward(tokens)]);
  return readFloats(logits);
}

/** One weight of two numbers. */
function point(x: number, y: number): Point {
  return new Map([['w', Float32Array.of(x, y)]]);
}

describe('points', () => {
  it('have every Linear of every block, and are where models compute', async () => {
    expect([...origin.keys()]).toEqual(dense.blocks.flatMap(({ path, linears }) => Object.keys(linears).map((name) => `${path}.${name}`)));
    for (const model of [dense, quantized]) {
      const moved = modelAt(dense, await pointOf(model, backend));
      expect(await logitsOf(moved)).toEqual(await logitsOf(model));
    }
  });

  it('leave everything but the weights of Linears as it is', () => {
    const moved = modelAt(dense, end);
    const names = [...tensorsOf(dense)].filter(([name]) => !origin.has(name.replace(/\.weight$/, ''))).map(([name]) => name);
    expect(names.some((name) => name.endsWith('bias'))).toBe(true);
    for (const name of names) expect(tensorsOf(moved).get(name)).toBe(tensorsOf(dense).get(name));
  });

  it('of a line begin and end exactly where its ends are', () => {
    expect(mix([origin, end], [1, 0])).toEqual(origin);
    expect(mix([origin, end], [0, 1])).toEqual(end);
    expect(distanceOf(origin, origin)).toBe(0);
    fc.assert(
      fc.property(fc.double({ min: 0.05, max: 1.5, noNaN: true }), (share) => {
        expect(distanceOf(origin, mix([origin, end], [1 - share, share])) / share).toBeCloseTo(distanceOf(origin, end), 5);
      }),
      { numRuns: 10 },
    );
  });

  it('have lengths and angles', () => {
    expect(normOf(point(3, 4))).toBe(5);
    expect(distanceOf(point(3, 4), point(3, 6.5))).toBe(0.5);
    expect(innerProduct(point(1, 1), point(2, 1), point(1, 5))).toBe(0);
    expect(innerProduct(point(1, 1), point(3, 2), point(0, 4))).toBe(1);
  });

  it('at random lie at distance 1 in each weight, where the seed says', () => {
    const drawn = randomPoint(origin, createRng(5));
    for (const [path, weight] of origin) expect(distanceOf(new Map([[path, weight]]), drawn), path).toBeCloseTo(1, 5);
    expect(randomPoint(origin, createRng(5))).toEqual(drawn);
    const other = randomPoint(origin, createRng(6));
    // Directions of so many dimensions are nearly at right angles.
    expect(Math.abs(innerProduct(origin, drawn, other)) / normOf(origin) ** 2).toBeLessThan(0.05);
  });
});

describe('a plane', () => {
  it('has its three points at its corners, at right angles and true distances', () => {
    const plane = planeThrough(point(1, 2), point(3, 2), point(2, 5));
    const unit = Math.sqrt(5);
    const [zero, first, second] = plane.corners;
    expect(zero).toEqual([0, 0]);
    expect(first).toEqual([expect.closeTo(2 / unit, 12), 0]);
    expect(second).toEqual([expect.closeTo(1 / unit, 12), expect.closeTo(3 / unit, 12)]);
    const found = plane.corners.map(([x, y]) => [...(plane.at(x, y).get('w') ?? [])].map((value) => Number(value.toFixed(5))));
    expect(found).toEqual([
      [1, 2],
      [3, 2],
      [2, 5],
    ]);
  });

  it('keeps distances from its origin', () => {
    const other = randomPoint(origin, createRng(1));
    const plane = planeThrough(origin, end, other);
    const coordinate = fc.double({ min: -1, max: 1, noNaN: true });
    fc.assert(
      fc.property(coordinate, coordinate, (x, y) => {
        expect(distanceOf(origin, plane.at(x, y))).toBeCloseTo(Math.hypot(x, y), 4);
      }),
      { numRuns: 10 },
    );
  });
});

describe('radii', () => {
  const bowl = (steepness: number, radii: readonly number[]): Place[] => radii.map((radius) => ({ radius, gap: steepness * radius ** 2 }));
  const steepness = fc.double({ min: 0.1, max: 50, noNaN: true });
  const share = fc.double({ min: 0.01, max: 0.99, noNaN: true });

  it('and losses of a bowl are read off exactly, inside its places', () => {
    fc.assert(
      fc.property(steepness, share, (k, at) => {
        const places = bowl(k, [0.1, 0.3, 1]);
        expect(gapAtRadius(places, at)).toBeCloseTo(k * at ** 2, 9);
        expect(radiusAtGap(places, k * at ** 2)).toBeCloseTo(at, 9);
      }),
    );
    expect(gapAtRadius(bowl(2, [0.5]), 0)).toBe(0);
    expect(gapAtRadius(bowl(2, [0.5]), 0.51)).toBeNaN();
    expect(radiusAtGap(bowl(2, [0.5]), 0.51)).toBeNaN();
  });

  it('rise with the loss that is allowed, whatever the losses are', () => {
    const gaps = fc.array(fc.double({ min: -0.1, max: 2, noNaN: true }), { minLength: 2, maxLength: 6 });
    fc.assert(
      fc.property(gaps, share, share, (found, a, b) => {
        const places = [...found.map((gap, i) => ({ radius: (i + 1) / 10, gap })), { radius: 1, gap: 3 }];
        const [low, high] = [Math.min(a, b), Math.max(a, b)];
        expect(radiusAtGap(places, low)).toBeLessThanOrEqual(radiusAtGap(places, high) + 1e-12);
      }),
    );
  });
});
