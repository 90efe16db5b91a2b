// Bits per weight against a score: a point for each recipe, and the frontier of those that none beats in both.
import { formatNumber } from '../markdown.js';
import { chart, labelExpr, rounded } from './chart.js';
import type { Html } from './html.js';
import { placeLabels } from './labels.js';
import type { Metric } from './metrics.js';
import type { Look } from './palette.js';
import { type Axis, axisOf, linearAxis, pixelsOf } from './scales.js';
import { compareScores, type Subject, type Summary } from './summary.js';

/** Pixels of the plot itself, without its axes. */
export interface PlotSize {
  readonly width: number;
  readonly height: number;
}

export interface ParetoPlot {
  readonly metric: Metric;
  readonly axis: Axis['type'];
  /** Names of recipes that have the score and no place on a logarithmic axis. */
  readonly undrawn: readonly string[];
  /** One for each size. */
  readonly charts: readonly Html[];
}

/** A recipe with the score and a size. */
interface Point {
  readonly subject: Subject;
  readonly score: Summary;
  readonly x: number;
}

const LEFT_MARGIN = 52;

/** Undefined where no recipe has the score. `subjects` are all of one model. */
export async function paretoPlot(
  subjects: readonly Subject[],
  metric: Metric,
  looks: ReadonlyMap<string, Look>,
  sizes: readonly PlotSize[],
): Promise<ParetoPlot | undefined> {
  const points = pointsOf(subjects, metric);
  if (points.length === 0) return undefined;
  const dense = metric.isDistance ? undefined : subjects.find(({ isDense }) => isDense)?.scores.get(metric.name)?.value;
  const values = [...points.map(({ score }) => score.value), ...(dense === undefined ? [] : [dense])];
  // Recipes that lose nothing that can be measured would hide by which factors the others differ.
  const positive = values.filter((value) => value > 0);
  const factors = metric.isDistance && positive.length > 0 ? axisOf(positive) : undefined;
  const axis = factors?.type === 'log' ? factors : axisOf(values);
  const drawn = axis.type === 'log' ? points.filter(({ score }) => score.value > 0) : points;
  const title = `${metric.title} against bits per weight, ${subjects[0].model}`;
  const charts: Html[] = [];
  for (const size of sizes) charts.push(await chart(specification(drawn, { axis, dense, metric, looks, size }), title));
  return {
    metric,
    axis: axis.type,
    undrawn: points.filter((point) => !drawn.includes(point)).map(({ subject }) => subject.recipe),
    charts,
  };
}

function pointsOf(subjects: readonly Subject[], { name }: Metric): Point[] {
  return subjects.flatMap((subject) => {
    const score = subject.scores.get(name);
    return subject.isDense || !score || subject.bitsPerWeight === null ? [] : [{ subject, score, x: subject.bitsPerWeight }];
  });
}

/** Points that none of equal or fewer bits equals or beats, from few bits to many. */
export function frontier<T extends { readonly x: number; readonly score: Summary }>(points: readonly T[]): T[] {
  const sorted = [...points].sort((a, b) => a.x - b.x || compareScores(a.score, b.score));
  const best: T[] = [];
  for (const point of sorted) {
    const last = best.at(-1);
    if (!last || compareScores(point.score, last.score) < 0) best.push(point);
  }
  return best;
}

interface Scene {
  readonly axis: Axis;
  readonly dense: number | undefined;
  readonly metric: Metric;
  readonly looks: ReadonlyMap<string, Look>;
  readonly size: PlotSize;
}

function specification(points: readonly Point[], { axis, dense, metric, looks, size }: Scene): object {
  const { width, height } = size;
  const bits = linearAxis(points.map(({ x }) => x));
  const [toX, up] = [pixelsOf(bits, width), pixelsOf(axis, height)];
  const toY = (value: number): number => height - up(Math.min(Math.max(value, axis.domain[0]), axis.domain[1]));
  const best = frontier(points);
  const marks = [...points].sort((a, b) => Number(best.includes(b)) - Number(best.includes(a)));
  const anchors = marks.map(({ subject, score, x }) => ({ x: toX(x), y: toY(score.value), text: subject.recipe }));
  const corners = best.flatMap(({ x, score }, i) => [
    ...(i === 0 ? [] : [[toX(x), toY(best[i - 1].score.value)] as const]),
    [toX(x), toY(score.value)] as const,
  ]);
  const labels = placeLabels(anchors, [...corners, [width, corners[corners.length - 1][1]]], width, height);
  const data = marks.map(({ subject, score, x }, i) => {
    const { colour, shape } = looks.get(subject.method) as Look;
    const isBest = best.includes(marks[i]);
    const noise = score.spread.noise || 0;
    return {
      ...{ x, y: score.value, shape, colour, fill: isBest ? colour : 'var(--page)', href: `#${subject.id}` },
      ...{ low: rounded(toY(score.value - noise)), high: rounded(toY(score.value + noise)), hasBar: noise > 0 },
      ...{ text: subject.recipe, weight: isBest ? 600 : 400, description: describe(subject, score, metric) },
      ...(labels[i] && { labelX: rounded(labels[i].x), labelY: rounded(labels[i].y), align: labels[i].align }),
    };
  });
  const line = [...best.map(({ x, score }) => ({ x, y: score.value })), { x: bits.domain[1], y: best.at(-1)?.score.value }];
  const x = { field: 'x', type: 'quantitative', title: 'bits per weight', ...scaleOf(bits, { grid: false, titleAnchor: 'end' }) };
  const y = { field: 'y', type: 'quantitative', title: null, ...scaleOf(axis, { minExtent: LEFT_MARGIN, maxExtent: LEFT_MARGIN }) };
  const pixels = (field: string): object => ({ field, type: 'quantitative', scale: null });
  const raw = (field: string): object => ({ field, type: 'nominal', scale: null });
  const href = { field: 'href' };
  const labelled = (align: Label): object => ({
    transform: [{ filter: `datum.align === '${align}'` }],
    mark: { type: 'text', align, baseline: 'middle', fontSize: 12, color: 'var(--ink)', aria: false },
    encoding: { x: pixels('labelX'), y: pixels('labelY'), text: { field: 'text' }, href },
  });
  return {
    ...{ width, height, data: { values: data } },
    layer: [
      ...(dense === undefined ? [] : denseLine(dense, y, { x: width, y: toY(dense) })),
      {
        data: { values: line },
        mark: { type: 'line', interpolate: 'step-after', color: 'var(--axis)', strokeWidth: 1.5, aria: false },
        encoding: { x, y },
      },
      {
        transform: [{ filter: 'datum.hasBar' }],
        mark: { type: 'rule', strokeWidth: 1.5, aria: false },
        encoding: { x, y: pixels('low'), y2: { field: 'high' }, stroke: raw('colour'), href },
      },
      {
        mark: { type: 'point', size: 90, strokeWidth: 1.75, opacity: 1 },
        encoding: { x, y, shape: raw('shape'), stroke: raw('colour'), fill: raw('fill'), href, description: { field: 'description' } },
      },
      ...(['left', 'center', 'right'] as const).map(labelled),
    ],
  };
}

type Label = 'left' | 'center' | 'right';

function scaleOf({ type, domain, ticks }: Axis, axis: object): object {
  return { scale: { type, domain, nice: false, zero: false }, axis: { values: ticks, labelExpr, ...axis } };
}

/** A line at the dense model's score, named at its right end. */
function denseLine(value: number, y: object, end: { readonly x: number; readonly y: number }): object[] {
  const text = `dense ${formatNumber(value)}`;
  return [
    { data: { values: [{ y: value }] }, mark: { type: 'rule', strokeDash: [4, 4], color: 'var(--axis)', aria: false }, encoding: { y } },
    {
      data: { values: [{ text, labelX: end.x, labelY: rounded(end.y + 12) }] },
      mark: { type: 'text', align: 'right', baseline: 'middle', fontSize: 12, color: 'var(--muted)', aria: false },
      encoding: {
        x: { field: 'labelX', type: 'quantitative', scale: null },
        y: { field: 'labelY', type: 'quantitative', scale: null },
        text: { field: 'text' },
      },
    },
  ];
}

/** What a tooltip says: the recipe, then a line for each figure. */
function describe({ recipe, bitsPerWeight }: Subject, { value, spread }: Summary, { title, unit }: Metric): string {
  const { noise, deviation, seeds } = spread;
  const error = noise > 0 ? ` ± ${formatNumber(Number(noise.toPrecision(2)))}` : '';
  const apart = deviation === undefined ? '' : `\ndeviation between ${seeds} seeds ${formatNumber(Number(deviation.toPrecision(2)))}`;
  const bits = `${bitsPerWeight?.toFixed(2)} bits per weight`;
  return `${recipe}\n${bits}\n${title} ${formatNumber(value)}${error}${unit && ` ${unit}`}${apart}`;
}
