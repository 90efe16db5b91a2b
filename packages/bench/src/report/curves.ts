// Losses during fine-tuning, from what methods logged: a small chart for each recipe.

import type { LogLine } from '../folder.js';
import { groupBy } from '../groups.js';
import { formatNumber } from '../markdown.js';
import { chart, labelExpr } from './chart.js';
import { type Html, html } from './html.js';
import { axisOf, linearAxis } from './scales.js';
import type { Subject } from './summary.js';

/** A loss of one training. */
interface Curve {
  /** 'heldOutLoss', as the method calls it. */
  readonly loss: string;
  /** What the axis counts: 'step', 'round', 'epoch'. */
  readonly unit: string;
  readonly path: string;
  readonly seed: number;
  readonly points: readonly { readonly at: number; readonly value: number }[];
}

const UNITS = ['step', 'round', 'epoch'] as const;

const SIZE = { width: 250, height: 140 };

/** Empty where nothing was logged that has a step and a loss. `subjects` are all of one model. */
export async function curveCharts(subjects: readonly Subject[], logs: readonly LogLine[]): Promise<Html[]> {
  const charts: Html[] = [];
  for (const subject of subjects) {
    const own = logs.filter(({ model, recipe }) => model === subject.model && recipe === subject.recipe);
    const all = curvesOf(own);
    for (const curves of groupBy(all, ({ unit }) => unit)) {
      const title = `Losses of ${subject.recipe}, ${subject.model}`;
      const drawing = await chart(specification(curves), title);
      charts.push(html`<figure data-subject="${subject.id}"><figcaption><a href="#${subject.id}">${subject.recipe}</a></figcaption>${drawing}</figure>
`);
    }
  }
  return charts;
}

/** Each loss of each training in the order of the log; a count that starts again is another training. */
export function curvesOf(logs: readonly LogLine[]): Curve[] {
  return groupBy(logs, ({ seed, path }) => [seed, path]).flatMap((records) => {
    const steps = records.flatMap(({ record }) => {
      const unit = UNITS.find((name) => isFinite(record[name]));
      return unit === undefined ? [] : [{ unit, at: record[unit] as number, record }];
    });
    const { seed, path } = records[0];
    const names = new Set(steps.flatMap(({ record }) => Object.keys(record).filter((name) => isLoss(name) && isFinite(record[name]))));
    return [...names].flatMap((loss) => {
      const trainings: { unit: string; points: { at: number; value: number }[] }[] = [];
      for (const { unit, at, record } of steps) {
        if (!isFinite(record[loss])) continue;
        const last = trainings.at(-1);
        const point = { at, value: record[loss] as number };
        if (last?.unit === unit && at > (last.points.at(-1)?.at ?? at)) last.points.push(point);
        else trainings.push({ unit, points: [point] });
      }
      return trainings.filter(({ points }) => points.length > 1).map((training) => ({ loss, path, seed, ...training }));
    });
  });
}

function isLoss(name: string): boolean {
  return name === 'kl' || /loss$/i.test(name);
}

function isFinite(value: unknown): boolean {
  return typeof value === 'number' && Number.isFinite(value);
}

/** What a method trained on is a thin line, what it was judged by on other data a thick one. */
function specification(curves: readonly Curve[]): object {
  const areJudged = curves.some(({ loss }) => loss !== 'loss');
  const data = curves.flatMap(({ loss, path, seed, points }, line) => {
    const isJudged = loss !== 'loss';
    const hasPoint = isJudged || !areJudged;
    return points.map(({ at, value }) => ({
      ...{ at, value, line, hasPoint, colour: isJudged ? 'var(--c0)' : 'var(--muted)', width: isJudged ? 2 : 1.25 },
      description: `${[nameOf(loss), path, `seed ${seed}`].filter(Boolean).join(', ')}\n${curves[0].unit} ${at}: ${formatNumber(value)}`,
    }));
  });
  const [across, up] = [linearAxis(data.map(({ at }) => at)), axisOf(data.map(({ value }) => value))];
  const isWhole = (tick: number): boolean => Number.isInteger(tick) && tick >= 0;
  const scale = ({ type, domain }: typeof up): object => ({ type, domain, nice: false, zero: false });
  const x = {
    ...{ field: 'at', type: 'quantitative', title: curves[0].unit, scale: scale(across) },
    axis: { values: across.ticks.filter(isWhole), grid: false, titleAnchor: 'end', labelExpr },
  };
  const ticks = up.ticks.length > 4 ? up.ticks.filter((_, i) => i % 2 === 0) : up.ticks;
  const y = {
    ...{ field: 'value', type: 'quantitative', title: null, scale: scale(up) },
    axis: { values: ticks, labelExpr, minExtent: 44, maxExtent: 44 },
  };
  const raw = (field: string): object => ({ field, type: 'nominal', scale: null });
  const detail = { field: 'line', type: 'nominal' };
  return {
    ...SIZE,
    data: { values: data },
    layer: [
      { mark: { type: 'line', aria: false }, encoding: { x, y, detail, stroke: raw('colour'), strokeWidth: raw('width') } },
      {
        // One can be pointed at; two sets of them would hide the lines.
        transform: [{ filter: 'datum.hasPoint' }],
        mark: { type: 'point', filled: true, size: 22, opacity: 1 },
        encoding: { x, y, detail, color: raw('colour'), description: { field: 'description' } },
      },
    ],
  };
}

/** What people call a loss. */
function nameOf(loss: string): string {
  if (loss === 'loss') return 'trained on';
  return loss === 'heldOutLoss' ? 'held out' : loss;
}
