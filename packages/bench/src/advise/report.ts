// Advice as a document: the verdict, everything that was tried, why it came to that, and how to repeat it.
import { formatNumber, layOutTable } from '../markdown.js';
import { type Advice, type DamageReport, farthest, type MeasuredTrial, type Trial } from './strategy.js';
import type { Threshold } from './threshold.js';

/** Parts named in the text; the others are in the folder. */
const NAMED_PARTS = 5;

/**
 * Markdown, to be read in a terminal as well.
 * @param repeat the command that makes the best model, if there is one.
 * @param differs in what the model that it makes differs from the one that was judged, if it does.
 */
export function adviceReport(advice: Advice<unknown>, repeat: string, differs?: string): string {
  const { threshold, trials, damages, best } = advice;
  const lines = [
    verdict(advice),
    '',
    trialTable(threshold, trials),
    ...trials.flatMap((trial) => ('error' in trial ? ['', `${trial.name} failed: ${trial.error.message.split('\n')[0]}`] : [])),
    ...damages.flatMap((report) => ['', damageText(report)]),
    ...(best
      ? ['', `To make ${best.isMet ? 'it' : 'the nearest'} again${differs === undefined ? '' : ` (${differs})`}:`, '', `    ${repeat}`]
      : []),
  ];
  return lines.join('\n');
}

/** 'kl at most 0.05: met by …' in two or three sentences. */
export function verdict({ threshold, best, trials }: Advice<unknown>): string {
  const { metric, value } = threshold;
  if (!best) return `${metric} at most ${value}: no recipe could be tried.`;
  const size = `${best.bitsPerWeight.toFixed(2)} bits/weight`;
  const values = best.confirmed ? `${estimate(best)} where it was chosen, ${estimate(best.confirmed)} on fresh text,` : estimate(best);
  const found = `${best.name}: ${values} at ${size}`;
  const said = best.isMet
    ? `met by ${found}.`
    : `met by nothing that was tried. Nearest is ${found}, ${formatNumber(farthest(best) - value)} too much.`;
  // Which side of the threshold it is on would be luck.
  const judged = best.confirmed ?? best;
  const isUnclear = Math.abs(judged.value - value) < 2 * judged.stderr;
  const unclear = isUnclear ? ' That is within two standard errors of the threshold; more windows would tell.' : '';
  // Each look is another chance to meet the threshold by luck.
  const looks = trials.filter((trial) => 'confirmed' in trial && trial.confirmed !== undefined).length;
  const often = best.isMet && looks > 1 ? ` ${looks} models have been judged on the fresh text, so that it is less fresh to this one.` : '';
  return `${metric} at most ${value}: ${said}${unclear}${often}`;
}

function estimate({ value, stderr }: Pick<MeasuredTrial, 'value' | 'stderr'>): string {
  return `${formatNumber(value)} ± ${Number(stderr.toPrecision(2))}`;
}

function trialTable({ metric }: Threshold, trials: readonly Trial[]): string {
  const body = trials.map((trial) =>
    'error' in trial
      ? [trial.name, '', trial.error.code, '', 'no', '']
      : [
          ...[trial.name, trial.bitsPerWeight.toFixed(2), estimate(trial), trial.confirmed ? estimate(trial.confirmed) : ''],
          ...[trial.isMet ? 'yes' : 'no', trial.seconds.toFixed(1)],
        ],
  );
  return layOutTable(['recipe', 'bits/weight', metric, 'on fresh text', 'met', 'seconds'], body, 1);
}

function damageText({ bits, recipe, parts }: DamageReport): string {
  const sum = (some: DamageReport['parts']): number => some.reduce((total, { kl }) => total + kl, 0);
  const worst = parts.slice(0, Math.ceil(parts.length / 4));
  const named = parts.slice(0, NAMED_PARTS).map(({ path, kl }) => `${path} (${formatNumber(kl)})`);
  return [
    `At ${bits} bits nothing met the threshold without training, and ${recipe} came nearest.`,
    `What each of its ${parts.length} parts does to the answers when it alone is quantized, as KL divergence from the dense model in nats a token:`,
    `most ${named.join(', ')}. The worst ${worst.length} make up ${((100 * sum(worst)) / sum(parts)).toFixed(0)} % of the sum.`,
  ].join(' ');
}
