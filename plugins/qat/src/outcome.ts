// What training came to: whether what was given is kept, what the log says of it, and what is warned of.
import type { RateSearchResult } from '@lowbit/train';
import type { Counts } from './course.js';
import type { Prepared } from './prepare.js';

/** Losses on what is judged on. */
export interface Judged {
  /** Of what the step was given; undefined where that cannot be handed back. */
  readonly given: number | undefined;
  /** Of the start of training. */
  readonly start: number;
  /** Of what training kept. */
  readonly after: number;
}

/** Whether what was given is no worse than what training kept. One that overflows is worse than anything that does not. */
export function keepsGiven({ given, after }: Judged): boolean {
  if (given === undefined) return false;
  return Number.isNaN(given) ? Number.isNaN(after) : !(after < given);
}

/** Elements of each role. */
export function countsOf({ parameters, roleOf }: Prepared<unknown>): Counts {
  const counts = { latent: 0, grid: 0, norm: 0 };
  for (const [name, { size }] of parameters) counts[roleOf(name)] += size;
  return counts;
}

/** What trainings share: peak rates by the names of their options, and steps of a round. */
interface Course {
  readonly rates: Readonly<Record<string, number>>;
  readonly stepsPerRound: number;
}

/** Of the rate that was kept: steps of its rounds, fewer than were planned where it ended early; and the losses. */
export function outcomeRecord(
  { best, diverged }: RateSearchResult,
  judged: Judged,
  { rates, stepsPerRound }: Course,
): Readonly<Record<string, unknown>> {
  const { result } = best;
  const isGiven = keepsGiven(judged);
  return {
    ...rates,
    divergedRates: diverged,
    steps: result.losses.length * stepsPerRound,
    losses: result.losses,
    lossGiven: judged.given,
    lossBefore: judged.start,
    lossAfter: isGiven ? judged.given : judged.after,
    keptRound: isGiven ? 'given' : result.epoch,
  };
}

interface Warned {
  /** By the names of their options: what to lower. */
  readonly rates: Course['rates'];
  readonly options: { readonly keepBest: boolean };
  warn(code: string, message: string): void;
}

/** @param where a prefix of the messages: which block. */
export function warnAbout({ best, diverged }: RateSearchResult, judged: Judged, { rates, options, warn }: Warned, where = ''): void {
  const { losses, epoch } = best.result;
  const lower = `lower ${Object.keys(rates).join(' and ')}`;
  const isGiven = keepsGiven(judged);
  const kept = isGiven ? 'what was given' : epoch === 0 ? 'the start' : `round ${epoch}`;
  if (best.result.diverged) {
    const reason = `a loss or a parameter was not finite after ${losses.length} rounds; ${kept} is kept`;
    warn('QAT_DIVERGED', `${where}${reason}; ${lower}, or set clipNorm`);
  } else if (diverged.length > 0) {
    warn('QAT_DIVERGED', `${where}learning rates ${diverged.join(', ')} left the finite numbers; leave them out`);
  }
  const { given, start, after } = judged;
  const before = given ?? start;
  const figures = `${before.toPrecision(4)} to ${after.toPrecision(4)}`;
  if (options.keepBest && (isGiven || epoch === 0)) {
    const message = `no state was judged better than ${kept}${isGiven ? ` (${figures})` : ''}, which is kept`;
    warn('QAT_NO_GAIN', `${where}${message}; ${lower}, or give more text`);
  } else if (!options.keepBest && (after > before || Number.isNaN(after))) {
    warn('QAT_WORSE', `${where}training raised the loss that is judged on from ${figures}; set keepBest, or ${lower}`);
  }
}
