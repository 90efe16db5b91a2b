// Added loss in the plane through the dense weights, those of GPTQ and those of QAT.
import type { ExperimentRow, StudyContext, StudyExperiment } from '@lowbit/core';
import { panels } from '@lowbit/core/experiments';
import { arm, gptqStep, inGroups, straightThroughStep } from './arms.js';
import { gapAt, studyProtocol } from './lines.js';
import { innerProduct, mix, normOf, type Point, pointOf } from './weight-space.js';

const widths = [2, 3];

/** Cells along each side. */
const CELLS = 9;

/** Of the extent of the three points, on each side of them. */
const MARGIN = 0.3;

/** Rectangular coordinates of a plane, in units of the norm of the dense weights: x leads towards the first point. */
interface Plane {
  /** Of the three points. */
  readonly corners: readonly (readonly [x: number, y: number])[];
  at(x: number, y: number): Point;
}

/** The plane through an origin and two points that are not on one line with it. */
export function planeThrough(origin: Point, first: Point, second: Point): Plane {
  const unit = normOf(origin);
  const length = Math.sqrt(innerProduct(origin, first, first)) / unit;
  const along = innerProduct(origin, first, second) / unit ** 2 / length;
  const across = Math.sqrt(Math.max(innerProduct(origin, second, second) / unit ** 2 - along ** 2, 0));
  return {
    corners: [
      [0, 0],
      [length, 0],
      [along, across],
    ],
    at(x, y) {
      const ofSecond = y / across;
      const ofFirst = (x - ofSecond * along) / length;
      return mix([origin, first, second], [1 - ofFirst - ofSecond, ofFirst, ofSecond]);
    },
  };
}

/** Edges of cells that cover some coordinates and a margin. */
function edgesOf(coordinates: readonly number[]): number[] {
  const [low, high] = [Math.min(...coordinates), Math.max(...coordinates)];
  const [start, extent] = [low - MARGIN * (high - low), (1 + 2 * MARGIN) * (high - low)];
  return Array.from({ length: CELLS + 1 }, (_, i) => start + (i / CELLS) * extent);
}

const names = ['dense', 'GPTQ', 'QAT'];

async function study(context: StudyContext): Promise<ExperimentRow[]> {
  const { outcome, dense, quantized, backend, quantize, progress } = context;
  const { parameters } = outcome.arm;
  const format = inGroups(Number(parameters?.['bits']));
  const origin = await pointOf(dense, backend);
  const local = await pointOf(await quantize([gptqStep(format)]), backend);
  const trained = await pointOf(quantized, backend);
  const plane = planeThrough(origin, local, trained);
  const [edgesX, edgesY] = [0, 1].map((axis) => edgesOf(plane.corners.map((corner) => corner[axis])));
  const rows: ExperimentRow[] = [];
  for (const [i, [x, y]] of plane.corners.entries()) {
    const gap = await gapAt(context, [origin, local, trained][i]);
    rows.push({ ...parameters, point: names[i], x, y, distance: Math.hypot(x, y), 'loss-gap': gap });
  }
  // Half way from one to the other: whether there is a ridge between them.
  const between = await gapAt(context, mix([local, trained], [0.5, 0.5]));
  const [x, y] = [0, 1].map((axis) => (plane.corners[1][axis] + plane.corners[2][axis]) / 2);
  rows.push({ ...parameters, point: 'half way from GPTQ to QAT', x, y, distance: Math.hypot(x, y), 'loss-gap': between });
  for (let cell = 0; cell < CELLS ** 2; cell++) {
    const [column, row] = [cell % CELLS, Math.floor(cell / CELLS)];
    const [left, right, low, high] = [edgesX[column], edgesX[column + 1], edgesY[row], edgesY[row + 1]];
    const gap = await gapAt(context, plane.at((left + right) / 2, (low + high) / 2));
    rows.push({ ...parameters, left, right, low, high, 'loss-gap': gap });
    progress(cell + 1, CELLS ** 2);
  }
  return rows;
}

/** As fields of both kinds of marks. */
const axes = {
  x: { type: 'quantitative', title: 'towards GPTQ, ‖Δ‖ / ‖w‖', scale: { zero: false, nice: false } },
  y: { type: 'quantitative', title: 'at right angles, towards QAT', scale: { zero: false, nice: false } },
} as const;

const cells = {
  transform: [{ filter: 'isValid(datum.left)' }],
  mark: { type: 'rect' },
  encoding: {
    x: { ...axes.x, field: 'left' },
    x2: { field: 'right' },
    y: { ...axes.y, field: 'low' },
    y2: { field: 'high' },
    color: {
      field: 'loss-gap',
      type: 'quantitative',
      title: 'added loss',
      // Steps that show the floor of the valley, where differences are small, as well as its walls.
      scale: { type: 'sqrt', scheme: 'viridis', reverse: true },
    },
  },
};

const corners = {
  transform: [{ filter: `indexof(${JSON.stringify(names)}, datum.point) >= 0` }],
  encoding: { x: { ...axes.x, field: 'x' }, y: { ...axes.y, field: 'y' } },
  layer: [
    { mark: { type: 'point', filled: true, color: 'white', stroke: 'black', size: 70, opacity: 1 } },
    { mark: { type: 'text', dy: -11, fontWeight: 600, color: 'black' }, encoding: { text: { field: 'point', type: 'nominal' } } },
  ],
};

export const plane: StudyExperiment = {
  name: 'plane',
  title: 'Added loss in the plane through the dense model, GPTQ and QAT',
  description:
    'Codes of 2 and 3 bits in groups of 32. Three models span a plane: the dense one, GPTQ, and QAT from rounding on the same text; its coordinates are distances in units of the norm of the weights. The loss is looked at on a grid of places in it. ' +
    'Look for the shape of the valley: whether QAT lies on its floor where GPTQ is on a wall, how far each is from the dense model, and whether there is a ridge between them.',
  source: 'arXiv 2410.14570, figure of the plane through pretrained, PTQ and QAFT weights',
  ...studyProtocol,
  seeds: [0],
  arms: widths.map((bits) => arm([straightThroughStep(inGroups(bits))], { bits })),
  study,
  table: { rows: ['model', 'bits', 'point'], values: ['loss-gap', 'distance'] },
  figure: panels({ layer: [cells, corners] }, { row: { field: 'bits', sort: widths }, independent: ['x', 'y'], height: 280 }),
};
