// What the table must show: the order of the methods at 2 bits, where the gain is, and how large it is.
import type { ClaimVerdict, ExperimentClaim, ExperimentRow } from '@lowbit/core';
import { type Sample, sampleOf, settingsOf, show, showSample, subjectOf } from './samples.js';

/** Names of the methods in rows, in the order of the legend. */
export const methods = {
  rtn: 'RTN',
  gptq: 'GPTQ',
  clipped: 'GPTQ, clipped',
  layerWise: 'decoupleQ',
  blockWise: 'decoupleQ, block-wise',
} as const;

type MethodName = (typeof methods)[keyof typeof methods];

const GAP = 'loss-gap';

/** One verdict for each model and granularity that has all the methods at all the bits. */
function verdicts(
  rows: readonly ExperimentRow[],
  bits: readonly number[],
  names: readonly MethodName[],
  judge: (gap: (method: MethodName, bits: number) => Sample, model: string) => Omit<ClaimVerdict, 'subject'> | null,
): ClaimVerdict[] {
  return settingsOf(rows, ['model', 'groups']).flatMap((setting) => {
    const found = new Map(
      bits.flatMap((b) => names.map((method) => [`${method} ${b}`, sampleOf(rows, { ...setting, method, bits: b }, GAP)] as const)),
    );
    if ([...found.values()].includes(null)) return [];
    const verdict = judge((method, b) => found.get(`${method} ${b}`) as Sample, String(setting['model']));
    const subject = subjectOf(setting['model'], ...(bits.length === 1 ? [`${bits[0]} bits`] : []), setting['groups']);
    return verdict ? [{ subject, ...verdict }] : [];
  });
}

/** The means ascend strictly in this order, at 2 bits. */
function ascending(name: string, statement: string, order: readonly MethodName[]): ExperimentClaim {
  return {
    name,
    statement,
    check: (rows) =>
      verdicts(rows, [2], order, (gap) => {
        const samples = order.map((method) => gap(method, 2));
        return {
          holds: samples.every((sample, i) => i === 0 || samples[i - 1].mean < sample.mean),
          evidence: order.map((method, i) => `${method} ${showSample(samples[i])}`).join('; '),
        };
      }),
  };
}

/** What quantizing adds, over what GPTQ adds, both as means over seeds; and for each seed. */
function ratio(a: Sample, b: Sample): Sample {
  return { mean: a.mean / b.mean, values: a.values.map((value, i) => value / b.values[i]) };
}

/** The ratio to GPTQ's at 2 bits is at most a limit that was set for a model. */
function bar(name: string, method: MethodName, limits: Readonly<Record<string, number>>): ExperimentClaim {
  const written = Object.entries(limits).map(([model, limit]) => `${limit} on ${model}`);
  return {
    name,
    statement: `At 2 bits, the loss that ${method} adds over what GPTQ adds is at most ${written.join(', ')}`,
    check: (rows) =>
      verdicts(rows, [2], [method, methods.gptq], (gap, model) => {
        if (!Object.hasOwn(limits, model)) return null;
        const share = ratio(gap(method, 2), gap(methods.gptq, 2));
        return { holds: share.mean <= limits[model], evidence: `${showSample(share)}, limit ${limits[model]}` };
      }),
  };
}

/** At 2 bits the gain over GPTQ exceeds this many times that at 3 bits. */
const CONCENTRATION = 2;

const concentrated: ExperimentClaim = {
  name: 'R2',
  statement: `The gain over GPTQ is made at low bits: at 2 bits more than ${CONCENTRATION} times that at 3, at 3 more than at 4`,
  check: (rows) =>
    verdicts(rows, [2, 3, 4], [methods.gptq, methods.layerWise], (gap) => {
      const [two, three, four] = [2, 3, 4].map((bits) => gap(methods.gptq, bits).mean - gap(methods.layerWise, bits).mean);
      return {
        holds: two > CONCENTRATION * three && three > four,
        evidence: `gain ${show(two)} at 2 bits, ${show(three)} at 3, ${show(four)} at 4`,
      };
    }),
};

const coarseGainsMost: ExperimentClaim = {
  name: 'R5',
  statement: "At 2 bits, decoupleQ's share of the loss that GPTQ adds is smaller per channel than in groups of 32",
  check(rows) {
    return settingsOf(rows, ['model']).flatMap((setting) => {
      const [channel, groups] = ['per channel', 'groups of 32'].map((name) => {
        const [ours, gptq] = [methods.layerWise, methods.gptq].map((method) =>
          sampleOf(rows, { ...setting, groups: name, bits: 2, method }, GAP),
        );
        return ours && gptq && ratio(ours, gptq);
      });
      if (!channel || !groups) return [];
      const evidence = `per channel ${showSample(channel)}; groups of 32 ${showSample(groups)}`;
      return [{ subject: subjectOf(setting['model'], '2 bits'), holds: channel.mean < groups.mean, evidence }];
    });
  },
};

export const tableClaims: readonly ExperimentClaim[] = [
  ascending('R1', 'At 2 bits, decoupleQ adds less loss than GPTQ, and GPTQ less than rounding to nearest', [
    methods.layerWise,
    methods.gptq,
    methods.rtn,
  ]),
  concentrated,
  ascending('R4-loss', 'At 2 bits, block-wise training lowers the added loss further', [methods.blockWise, methods.layerWise]),
  coarseGainsMost,
  ascending('R6', 'At 2 bits, GPTQ with clipped ranges lies between decoupleQ and GPTQ', [
    methods.layerWise,
    methods.clipped,
    methods.gptq,
  ]),
  bar('bar-layer', methods.layerWise, { stories15M: 0.5, tiny: 0.75 }),
  bar('bar-block', methods.blockWise, { stories15M: 0.42, tiny: 0.65 }),
];
