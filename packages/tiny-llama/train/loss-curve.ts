// Draws a run's loss curve as a small SVG: training and held-out loss over tokens, and the trigram's loss as a level to compare with.
import type { CurvePoint } from './run.js';

const WIDTH = 640;
const HEIGHT = 320;
const MARGIN = { left: 52, right: 20, top: 34, bottom: 44 };

/** Curve in nats per token; `baseline` is the trigram's held-out loss. */
export function lossCurveSvg(title: string, curve: readonly CurvePoint[], baseline: number): string {
  const losses = curve.flatMap(({ trainLoss, heldOutLoss }) => [trainLoss, heldOutLoss]);
  const low = Math.floor(Math.min(...losses, baseline) * 2) / 2;
  const high = Math.ceil(Math.max(...losses) * 2) / 2;
  const millions = Math.max(...curve.map(({ tokens }) => tokens)) / 1e6;
  const x = (tokens: number): number => MARGIN.left + (tokens / 1e6 / millions) * (WIDTH - MARGIN.left - MARGIN.right);
  const y = (loss: number): number => MARGIN.top + ((high - loss) / (high - low)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const line = (pick: (point: CurvePoint) => number, color: string): string =>
    `<polyline fill="none" stroke="${color}" stroke-width="2" points="${curve.map((p) => `${x(p.tokens).toFixed(1)},${y(pick(p)).toFixed(1)}`).join(' ')}"/>`;
  const levels = Array.from({ length: Math.round((high - low) / 0.5) + 1 }, (_, i) => low + i * 0.5);
  const ticks = Array.from({ length: Math.floor(millions / 2) + 1 }, (_, i) => i * 2);
  const text = (at: [number, number], anchor: string, content: string, color = '#555'): string =>
    `<text x="${at[0].toFixed(1)}" y="${at[1].toFixed(1)}" text-anchor="${anchor}" fill="${color}">${content}</text>`;
  const right = WIDTH - MARGIN.right;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    '<rect width="100%" height="100%" fill="#fff"/>',
    text([MARGIN.left, 20], 'start', title, '#111'),
    ...levels.map(
      (loss) => `<line x1="${MARGIN.left}" x2="${right}" y1="${y(loss).toFixed(1)}" y2="${y(loss).toFixed(1)}" stroke="#e3e3e3"/>`,
    ),
    ...levels.map((loss) => text([MARGIN.left - 6, y(loss) + 4], 'end', loss.toFixed(1))),
    ...ticks.map((t) => text([x(t * 1e6), HEIGHT - MARGIN.bottom + 16], 'middle', `${t}`)),
    text([(MARGIN.left + right) / 2, HEIGHT - 8], 'middle', 'million tokens seen'),
    `<line x1="${MARGIN.left}" x2="${right}" y1="${y(baseline).toFixed(1)}" y2="${y(baseline).toFixed(1)}" stroke="#999" stroke-dasharray="5 4"/>`,
    text([right, y(baseline) - 6], 'end', `trigram ${baseline.toFixed(2)}`),
    line((p) => p.trainLoss, '#9ab8e0'),
    line((p) => p.heldOutLoss, '#1d4f9c'),
    text([right, 20], 'end', 'held-out (dark) and training (light) loss, nats per token'),
    '</svg>',
    '',
  ].join('\n');
}
