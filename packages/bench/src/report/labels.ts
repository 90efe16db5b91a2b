// Names beside points: placed where they cover nothing, and left out where there is no such place.

export interface Anchor {
  /** Pixels from the upper left corner of the plot. */
  readonly x: number;
  readonly y: number;
  readonly text: string;
}

export interface Label {
  readonly x: number;
  /** Of the baseline's middle. */
  readonly y: number;
  readonly align: 'left' | 'center' | 'right';
}

interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

/** Of text of 12 px in the fonts of systems: widths differ, so on the large side. */
const CHARACTER_WIDTH = 7;
const HALF_HEIGHT = 7;
const POINT_RADIUS = 6;
const GAP = 10;
const LINE_ROOM = 2;

/** Tried in this order. */
const places = [
  { dx: GAP, dy: 0, align: 'left' },
  { dx: -GAP, dy: 0, align: 'right' },
  { dx: -5, dy: 14, align: 'left' },
  { dx: 5, dy: 14, align: 'right' },
  { dx: 0, dy: 15, align: 'center' },
  { dx: 5, dy: -13, align: 'left' },
  { dx: 0, dy: -15, align: 'center' },
  { dx: -5, dy: -13, align: 'right' },
] as const;

/**
 * A label for each anchor, earlier ones first; undefined where there is no room inside `width` × `height`. `line` is a polyline of steps
 * that labels leave free as well.
 */
export function placeLabels(
  anchors: readonly Anchor[],
  line: readonly (readonly [number, number])[],
  width: number,
  height: number,
): (Label | undefined)[] {
  const taken: Box[] = anchors.map(({ x, y }) => around(x, y, POINT_RADIUS, POINT_RADIUS));
  const segments = line.slice(1).map(([x, y], i) => {
    const [fromX, fromY] = line[i];
    return around((x + fromX) / 2, (y + fromY) / 2, Math.abs(x - fromX) / 2 + LINE_ROOM, Math.abs(y - fromY) / 2 + LINE_ROOM);
  });
  return anchors.map(({ x, y, text }, own) => {
    const half = (text.length * CHARACTER_WIDTH) / 2;
    for (const { dx, dy, align } of places) {
      const shift = { left: half, center: 0, right: -half }[align];
      const box = around(x + dx + shift, y + dy, half, HALF_HEIGHT);
      const isInside = box.left >= 0 && box.right <= width && box.top >= 0 && box.bottom <= height;
      if (!isInside || [...taken, ...segments].some((other, i) => i !== own && overlaps(box, other))) continue;
      taken.push(box);
      return { x: x + dx, y: y + dy, align };
    }
    return undefined;
  });
}

function around(x: number, y: number, halfWidth: number, halfHeight: number): Box {
  return { left: x - halfWidth, right: x + halfWidth, top: y - halfHeight, bottom: y + halfHeight };
}

function overlaps(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
