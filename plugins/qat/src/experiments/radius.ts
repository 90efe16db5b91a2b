// How far random directions lead before loss is added, and how far rounding goes.
import type { ExperimentRow, StudyContext, StudyExperiment } from '@lowbit/core';
import { claimOn, combine, inEverySeed, logarithmic, means, panels } from '@lowbit/core/experiments';
import { inGroups, rtnStep } from './arms.js';
import { gapAt, gapAtRadius, lossAxis, type Place, placesAlong, radiusAtGap, studyProtocol } from './lines.js';
import { distanceOf, pointOf, randomPoint } from './weight-space.js';

/** Added loss at the radius of the basin, nats a token. */
const TAU = 0.05;

/** Others at which the radius is printed. */
const taus = [0.01, 0.02, TAU, 0.1, 0.2];

const DRAWS = 8;
const radii = [0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7];

const widths = [8, 6, 5, 4, 3, 2];

/** Mean over directions at each radius. */
function meanOf(lines: readonly (readonly Place[])[]): Place[] {
  return lines[0].map(({ radius }, i) => ({ radius, gap: lines.reduce((total, line) => total + line[i].gap, 0) / lines.length }));
}

/** How far the basin reaches, and how much of its depth there is half way. */
function basinOf(mean: readonly Place[], tau: number): ExperimentRow {
  const radius = radiusAtGap(mean, tau);
  return { tau, R: radius, 'half way': gapAtRadius(mean, radius / 2) / tau };
}

async function study(context: StudyContext): Promise<ExperimentRow[]> {
  const { dense, backend, rng, quantize, progress } = context;
  const origin = await pointOf(dense, backend);
  const total = DRAWS * radii.length + widths.length;
  let done = 0;
  const tick = (): void => progress(++done, total);
  const lines: Place[][] = [];
  for (let draw = 0; draw < DRAWS; draw++) {
    // At distance 1, so that a multiple of the step is a radius; up to the rounding of floats.
    lines.push(await placesAlong(context, [origin, randomPoint(origin, rng.at('direction', draw))], radii, tick));
  }
  const mean = meanOf(lines);
  const radius = radiusAtGap(mean, TAU);
  const rounded: ExperimentRow[] = [];
  for (const bits of widths) {
    const point = await pointOf(await quantize([rtnStep(inGroups(bits))]), backend);
    const distance = distanceOf(origin, point);
    rounded.push({
      bits,
      distance,
      R: radius,
      rho: distance / radius,
      'RTN adds': await gapAt(context, point),
      'random adds': gapAtRadius(mean, distance),
    });
    tick();
  }
  return [
    ...rounded,
    ...taus.map((tau) => basinOf(mean, tau)),
    ...lines.flatMap((places, draw) => places.map((place, i) => ({ draw, radius: radii[i], 'loss-gap': place.gap }))),
  ];
}

function atBits(...bits: readonly number[]): Record<string, ExperimentRow> {
  return Object.fromEntries(bits.map((width) => [`${width} bits`, { bits: width }]));
}

const LEAST = 1.7;
const MOST = 2.6;

/** Of the loss at R, half way there: a bowl has a quarter, a cone a half. */
const FLAT = 1 / 3;

const claims = [
  claimOn(
    'Q3-basin',
    `Rounding to 5 bits stays within the radius of the basin, R at ${TAU} nats, and rounding to 2 bits leads out of it, in every seed`,
    [
      {
        arms: atBits(5, 2),
        field: 'rho',
        holds: ([inside, outside]) => inEverySeed(inside, (rho) => rho < 1) && inEverySeed(outside, (rho) => rho > 1),
      },
    ],
  ),
  claimOn(
    'Q3-doubling',
    `Each bit less leads rounding about twice as far from the dense weights: ${LEAST} to ${MOST} times, from 6 bits to 2, in every seed`,
    [
      {
        arms: atBits(6, 5, 4, 3, 2),
        field: 'distance',
        holds: (distances) =>
          distances.slice(1).every((far, i) =>
            inEverySeed(
              combine((a, b) => a / b, far, distances[i]),
              (ratio) => ratio >= LEAST && ratio <= MOST,
            ),
          ),
      },
    ],
  ),
  claimOn(
    'Q3-flat',
    'The basin has a flat floor: half way to R in random directions at most a third of the loss is added (a bowl: a quarter, a cone: a half), in every seed',
    [
      {
        arms: { 'share of the loss': { tau: TAU } },
        field: 'half way',
        holds: ([share]) => inEverySeed(share, (value) => value <= FLAT),
      },
    ],
  ),
];

const marks = {
  transform: [{ filter: 'isValid(datum.distance)' }],
  encoding: { x: { field: 'distance', type: 'quantitative', aggregate: 'mean' }, detail: { field: 'bits' } },
  layer: [
    { mark: { type: 'rule', strokeDash: [4, 3], color: '#999999' } },
    {
      mark: { type: 'text', align: 'left', dx: 3, dy: 8, baseline: 'top', color: '#555555' },
      encoding: { y: { value: 0 }, text: { field: 'bits', type: 'ordinal' } },
    },
  ],
};

export const radius: StudyExperiment = {
  name: 'radius',
  title: 'How far random directions lead before loss is added, against how far rounding goes',
  description:
    `Noise is added to the weights of all Linears, normal, and to each weight in proportion to its norm: ${DRAWS} directions, each from 0.025 to 0.7 of the norm. R is the distance at which ${TAU} nats a token are added on average, and ρ the distance of rounding to nearest in groups of 32 over R. ` +
    'Local corrections are expected to help the model as long as ρ is below 1. Dashed lines in the figure are the distances of rounding, by bits. Look at what rounding adds against what noise of the same length does: rounding is no worse a direction than any other.',
  source: 'arXiv 2410.14570, the basin around the pretrained weights',
  ...studyProtocol,
  arms: [{ name: 'random directions', recipe: [] }],
  study,
  table: { rows: ['model', 'bits'], values: ['distance', 'R', 'rho', 'RTN adds', 'random adds'] },
  figure: panels(
    {
      layer: [
        {
          transform: [{ filter: 'isValid(datum.radius)' }],
          ...means('y', 'line', {
            x: { field: 'radius', type: 'quantitative', title: 'distance from the dense weights, ‖Δ‖ / ‖w‖', scale: logarithmic },
            y: { field: 'loss-gap', ...lossAxis },
          }),
        },
        marks,
      ],
    },
    { independent: ['x', 'y'] },
  ),
  claims,
};
