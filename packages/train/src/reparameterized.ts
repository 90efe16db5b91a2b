// A loss of tensors that are computed from what is trained: each is evaluated once a step, and the chain rule leads back, unit by unit.
import { add, type Backend, grad, LowbitError, mul, sum, type Tensor } from '@lowbit/core';
import type { StagedLoss } from './loss.js';
import type { NamedTensors } from './optimizer.js';

/** Some parameters and the tensors that they alone stand for: the fake-quantized weight of one Linear, for example. */
export interface ParameterUnit {
  /** What it reads; no other unit does. */
  readonly parameters: readonly string[];
  /**
   * Those tensors by their names in the model: graphs over the parameters among `values`, and leaves that may be computed from them on the
   * host, which no gradient reaches. Asked for once a step. Units of one structure share two programs.
   */
  expressions(values: NamedTensors): NamedTensors | Promise<NamedTensors>;
}

/**
 * The loss of parameters, given that of the tensors that they stand for. Parameters of no unit go to the loss as they are. The tensors of
 * units are leaves while the loss runs, so that its programs do not contain how they came about, and their memory is given back after it.
 * @throws TRAIN_PARAMETER when two units read one parameter, or there is none of a name.
 */
export function reparameterized<Batch>(backend: Backend, loss: StagedLoss<Batch>, units: readonly ParameterUnit[]): StagedLoss<Batch> {
  const inner = innerNames(units);
  return {
    async value(parameters, batch) {
      const { tensors, made } = await computed(backend, units, inner, parameters);
      const value = await loss.value(tensors, batch);
      await backend.evaluate([], { release: made });
      return value;
    },
    async gradients(parameters, batch, step) {
      const { tensors, made, expressions } = await computed(backend, units, inner, parameters);
      const { loss: value, gradients } = await loss.gradients(tensors, batch, step);
      await backend.evaluate([], { release: made });
      const found = new Map(gradients);
      for (const [index, unit] of units.entries()) {
        const products: Tensor[] = [];
        const upstream: Tensor[] = [];
        for (const [name, expression] of expressions[index]) {
          const along = gradients.get(name) as Tensor;
          products.push(sum(mul(expression, along)));
          upstream.push(along);
        }
        const wanted = unit.parameters.map((name) => parameters.get(name) as Tensor);
        const total = products.reduce((a, b) => add(a, b));
        const back = await backend.evaluate(grad(total, wanted), { release: upstream });
        for (const [i, name] of unit.parameters.entries()) found.set(name, back[i]);
      }
      return { loss: value, gradients: new Map([...parameters.keys()].map((name) => [name, found.get(name) as Tensor])) };
    },
  };
}

/** Parameters that units read, and that the loss is not given. */
function innerNames(units: readonly ParameterUnit[]): ReadonlySet<string> {
  const names = new Set<string>();
  for (const name of units.flatMap(({ parameters }) => parameters)) {
    if (names.has(name)) {
      throw new LowbitError('TRAIN_PARAMETER', `reparameterized: two units read '${name}'; make one unit of what depends on it`);
    }
    names.add(name);
  }
  return names;
}

interface Computed {
  /** By unit. */
  readonly expressions: readonly NamedTensors[];
  /** What the loss is given. */
  readonly tensors: NamedTensors;
  /** Leaves among them that nobody else holds. */
  readonly made: readonly Tensor[];
}

async function computed(
  backend: Backend,
  units: readonly ParameterUnit[],
  inner: ReadonlySet<string>,
  parameters: NamedTensors,
): Promise<Computed> {
  const missing = [...inner].find((name) => !parameters.has(name));
  if (missing !== undefined) {
    throw new LowbitError('TRAIN_PARAMETER', `reparameterized: there is no parameter '${missing}', which a unit reads; pass it too`);
  }
  const tensors = new Map([...parameters].filter(([name]) => !inner.has(name)));
  const made: Tensor[] = [];
  const expressions: NamedTensors[] = [];
  for (const unit of units) {
    const own = await unit.expressions(parameters);
    const leaves = await backend.evaluate([...own.values()]);
    for (const [i, [name, expression]] of [...own].entries()) {
      tensors.set(name, leaves[i]);
      if (leaves[i] !== expression) made.push(leaves[i]);
    }
    expressions.push(own);
  }
  return { expressions, tensors, made };
}
