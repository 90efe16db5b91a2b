// Normalisations and activations: composites with cheaper gradients than their decompositions.
import { LowbitError } from '../errors.js';
import { formatShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { apply } from './apply.js';
import type { CompositeDefinition } from './definition.js';
import { add, div, erf, less, maximum, mul, sigmoid, sqrt, square, sub, sumTo, tanh, where } from './elementwise.js';
import { mean, sum } from './reduce.js';

/**
 * x / √(Σx²/size + ε) · weight over the last axis (arXiv 1910.07467). `size` is the divisor of the mean square, by default the
 * width of x; a widened residual stream keeps the model's own.
 */
export function rmsNorm(
  x: Tensor,
  weight: Tensor | undefined,
  { size = x.shape[x.rank - 1], epsilon }: { size?: number; epsilon: number },
): Tensor {
  return apply('rmsNorm', weight ? [x, weight] : [x], { size, epsilon });
}

/** (x − mean) / √(variance + ε) · weight + bias over the last axis (arXiv 1607.06450). */
export function layerNorm(x: Tensor, weight: Tensor | undefined, bias: Tensor | undefined, { epsilon }: { epsilon: number }): Tensor {
  if (bias && !weight) return add(apply('layerNorm', [x], { epsilon }), bias);
  const affine = weight ? [weight, ...(bias ? [bias] : [])] : [];
  return apply('layerNorm', [x, ...affine], { epsilon });
}

/** x · sigmoid(x). */
export const silu = (x: Tensor): Tensor => apply('silu', [x]);

/** x · Φ(x), exact (arXiv 1606.08415). */
export const gelu = (x: Tensor): Tensor => apply('gelu', [x]);

/** x · ½(1 + tanh(√(2/π)(x + 0.044715x³))): the approximation of x · Φ(x) that GPT-2 was trained with (arXiv 1606.08415, §2). */
export const geluTanh = (x: Tensor): Tensor => apply('geluTanh', [x]);

/** max(x, 0); no gradient flows where x is 0. */
export const relu = (x: Tensor): Tensor => apply('relu', [x]);

const inferSame: CompositeDefinition['infer'] = ([x]) => ({ shape: x.shape, dtype: x.dtype });

/** 1 + tanh(…) of `geluTanh`. */
function gate(x: Tensor): Tensor {
  return add(1, tanh(mul(mul(x, add(1, mul(square(x), CUBE))), SLOPE)));
}

const SLOPE = Math.sqrt(2 / Math.PI);
const CUBE = 0.044715;

function inverseRms(x: Tensor, size: number, epsilon: number): Tensor {
  return div(1, sqrt(add(mul(sum(square(x), [-1], true), 1 / size), epsilon)));
}

function inferNorm(op: string) {
  return (inputs: readonly Tensor[]) => {
    const [x, ...affine] = inputs;
    const width = x.shape[x.rank - 1];
    for (const parameter of affine) {
      if (parameter.rank !== 1 || parameter.size !== width) {
        throw new LowbitError(
          'SHAPE_NORM',
          `${op}: parameter ${formatShape(parameter.shape)} does not fit the last axis of ${formatShape(x.shape)}`,
        );
      }
    }
    return { shape: x.shape, dtype: x.dtype };
  };
}

export const normalizationOps: Record<'rmsNorm' | 'layerNorm' | 'silu' | 'gelu' | 'geluTanh' | 'relu', CompositeDefinition> = {
  rmsNorm: {
    kind: 'composite',
    infer: inferNorm('rmsNorm'),
    decompose: ([x, weight], attributes) => {
      const { size, epsilon } = attributes as { size: number; epsilon: number };
      const normalized = mul(x, inverseRms(x, size, epsilon));
      return weight ? mul(normalized, weight) : normalized;
    },
    // With r = 1/√(Σx²/n + ε) and g = dy·w: dx = r·(g − x·r²/n·Σ g x), dw = Σ dy·x·r.
    gradient: ({ inputs: [x, weight], upstream, attributes }) => {
      const { size, epsilon } = attributes as { size: number; epsilon: number };
      const r = inverseRms(x, size, epsilon);
      const g = weight ? mul(upstream, weight) : upstream;
      const projection = mul(sum(mul(g, x), [-1], true), mul(square(r), 1 / size));
      const dx = mul(r, sub(g, mul(x, projection)));
      return weight ? [dx, sumTo(mul(upstream, mul(x, r)), weight.shape)] : [dx];
    },
  },
  layerNorm: {
    kind: 'composite',
    infer: inferNorm('layerNorm'),
    decompose: ([x, weight, bias], attributes) => {
      const centred = sub(x, mean(x, [-1], true));
      const variance = mean(square(centred), [-1], true);
      const normalized = div(centred, sqrt(add(variance, attributes.epsilon as number)));
      const scaled = weight ? mul(normalized, weight) : normalized;
      return bias ? add(scaled, bias) : scaled;
    },
    // With x̂ = (x − mean)/σ and g = dy·w: dx = (g − mean(g) − x̂·mean(g x̂))/σ, dw = Σ dy·x̂, db = Σ dy.
    gradient: ({ inputs: [x, weight, bias], upstream, attributes }) => {
      const centred = sub(x, mean(x, [-1], true));
      const inverse = div(1, sqrt(add(mean(square(centred), [-1], true), attributes.epsilon as number)));
      const normalized = mul(centred, inverse);
      const g = weight ? mul(upstream, weight) : upstream;
      const projection = mul(normalized, mean(mul(g, normalized), [-1], true));
      const dx = mul(inverse, sub(sub(g, mean(g, [-1], true)), projection));
      if (!weight) return [dx];
      const dw = sumTo(mul(upstream, normalized), weight.shape);
      return bias ? [dx, dw, sumTo(upstream, bias.shape)] : [dx, dw];
    },
  },
  silu: {
    kind: 'composite',
    infer: inferSame,
    decompose: ([x]) => mul(x, sigmoid(x)),
    gradient: ({ inputs: [x], upstream }) => {
      const s = sigmoid(x);
      return [mul(upstream, mul(s, add(1, mul(x, sub(1, s)))))];
    },
  },
  gelu: {
    kind: 'composite',
    infer: inferSame,
    decompose: ([x]) => mul(mul(x, 0.5), add(1, erf(mul(x, Math.SQRT1_2)))),
  },
  geluTanh: {
    kind: 'composite',
    infer: inferSame,
    decompose: ([x]) => mul(mul(x, 0.5), gate(x)),
    // With u = 1 + tanh(v): tanh' = u(2 − u), so dx = ½u(1 + x(2 − u)·dv/dx).
    gradient: ({ inputs: [x], upstream }) => {
      const u = gate(x);
      const slope = mul(add(1, mul(square(x), 3 * CUBE)), SLOPE);
      return [mul(upstream, mul(mul(u, 0.5), add(1, mul(mul(x, sub(2, u)), slope))))];
    },
  },
  relu: {
    kind: 'composite',
    infer: inferSame,
    decompose: ([x]) => maximum(x, 0),
    gradient: ({ inputs: [x], upstream }) => [where(less(0, x), upstream, 0)],
  },
};
