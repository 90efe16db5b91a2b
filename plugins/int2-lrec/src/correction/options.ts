// Options of the low-rank correction, and its forms.
import { type ClosedFormName, closedForms } from '@lowbit/quant';
import { z } from 'zod';

/** Forms that leave the codes as they are, and forms that round the weight again. */
const closedFormNames = Object.keys(closedForms) as [ClosedFormName, ...ClosedFormName[]];
const roundingForms = ['loftq', 'pissa'] as const;

/** Whether the form chooses codes too. */
export function roundsAgain(form: CorrectionForm): form is RoundingForm {
  return (roundingForms as readonly string[]).includes(form);
}

export type RoundingForm = (typeof roundingForms)[number];
export type CorrectionForm = ClosedFormName | RoundingForm;

/** Schema of the method's options. */
export const correctionOptions = z.strictObject({
  form: z
    .enum([...closedFormNames, ...roundingForms])
    .default('qera-exact')
    .describe(
      "What is minimised: the error of the weight ('svd'), of the outputs with one number an input ('l2qer', 'qera-approx') or their whole second moment ('qera-exact', 'eora'); 'loftq' and 'pissa' choose the codes too",
    ),
  rank: z.int().min(1).optional().describe('Rank of every adapter, in place of overhead'),
  overhead: z
    .number()
    .gt(0)
    .max(1)
    .default(0.05)
    .describe('Bits of the adapters as a share of the whole checkpoint before them; the ranks follow'),
  alpha: z
    .number()
    .gt(0)
    .optional()
    .describe('The adapter is scaled by alpha / rank, and its factors are divided accordingly: the correction is the same; 1 without it'),
  adapterDtype: z.enum(['float16', 'float32']).default('float16').describe('How adapters are stored; errors are those of what is stored'),
  dampening: z
    .number()
    .min(0)
    .max(1)
    .default(0.03)
    .describe("Added to the diagonal of the inputs' second moment, relative to its mean, for 'qera-exact' and 'eora'"),
  rounds: z.int().min(1).default(5).describe("How often 'loftq' rounds the weight; the best round is kept"),
});

/** As they are written in a recipe. */
export type LowRankCorrectionInput = z.input<typeof correctionOptions>;
/** Parsed. `rank` counts before `overhead`. */
export type LowRankCorrectionOptions = z.output<typeof correctionOptions>;
