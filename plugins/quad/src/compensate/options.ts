// Options of the compensation.
import { z } from 'zod';

/** Schema of the method's options. */
export const compensateOptions = z.strictObject({
  activations: z
    .enum(['quantized', 'dense'])
    .default('quantized')
    .describe("What the quantized weight reads: 'quantized', its inputs as the layer rounds them, or 'dense', its inputs before that"),
  dampening: z
    .number()
    .min(0)
    .max(1)
    .default(1e-4)
    .describe(
      'Pull towards the columns of the dense weight, relative to the mean energy of their inputs; raised while the system is singular',
    ),
});

/** As they are written in a recipe. */
export type CompensateInput = z.input<typeof compensateOptions>;

export type CompensateOptions = z.output<typeof compensateOptions>;
