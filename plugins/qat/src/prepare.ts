// Prepare and convert: a block or a model with trained weights in place of its own, and back to codes.
import {
  type Backend,
  type Block,
  type DenseLinear,
  formatShape,
  type Linear,
  LowbitError,
  type Model,
  type Norm,
  quantizablePart,
  readFloats,
  requireDense,
  sameShape,
  type Tensor,
  type TensorMap,
  tensorsOf,
  throwIfAborted,
} from '@lowbit/core';
import { QuantizedLinear } from '@lowbit/quant';
import { type NamedTensors, type ParameterUnit, reparameterized, type StagedLoss, withParameters } from '@lowbit/train';
import { trainedPart } from './parts.js';
import { type FakeQuantized, type FakeQuantizer, storedWeight } from './quantizer/fake-quantizer.js';
import { quantizerOf, type WeightOptions } from './quantizer/select.js';
import { denseStandIn, frozenStandIn, type StandIn } from './stand-in.js';

/** What a parameter is to an optimizer. */
export type ParameterRole = 'latent' | 'grid' | 'norm';

/** A tree (a block or a model) ready for training. */
export interface Prepared<Tree> {
  /**
   * The tree with a dense weight in place of each that is trained, or, where codes stay, with their scales and offsets alone. Those have no
   * elements until `lossOf` or `tensorsFor` gives them some.
   */
  readonly shell: Tree;
  /**
   * What is trained: 'latent', 'scale', … below the name of a Linear, and tensors of norms by their own names. Latents are leaves that are computed
   * whenever they are read, from the model and the reference: `train` reads them once, other loops have `inMemory` of @lowbit/train.
   */
  readonly parameters: NamedTensors;
  roleOf(name: string): ParameterRole;
  /** Factor of a parameter's gradient in LSQ; 1 for latents and norms. */
  gradientScale(name: string): number;
  /** The tensors of the shell that values of the parameters stand for, as graphs that gradients flow through. @throws TRAIN_PARAMETER. */
  tensorsFor(values: NamedTensors): Promise<NamedTensors>;
  /** The loss of the parameters, given that of tensors of the shell: each weight is computed once for a loss, apart from it. */
  lossOf<Batch>(loss: StagedLoss<Batch>): StagedLoss<Batch>;
  /** The tree that values stand for, with codes: bit for bit what they were trained as. @throws TRAIN_PARAMETER. */
  convert(values: NamedTensors): Promise<Tree>;
}

export interface PrepareRequest {
  readonly backend: Backend;
  /** Options of a Linear by path; undefined where it is not trained. */
  optionsFor(path: string): WeightOptions | undefined;
  /** Tensors of norms are trained too: of blocks with a Linear that is, and of the last norm where all blocks have one. */
  readonly trainNorms?: boolean;
  /** Heard between two Linears: weights behind their codes are computed one after the other. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * @param block in memory.
 * @param reference the same block in full precision, asked for where the weights behind codes begin as those.
 * @throws QAT_NOTHING when nothing is trained; ABORTED when the signal is; what `quantizerOf` throws.
 */
export function prepareBlock(block: Block, request: PrepareRequest, reference: () => Promise<Block>): Promise<Prepared<Block>> {
  const dense = rememberLast(reference);
  return prepareTree(request, {
    linears: linearsOf(block, '', () => dense(0)),
    norms: Object.values(block.norms),
    assemble: (linears) => block.with({ linears: Object.fromEntries(linears) }),
  });
}

/**
 * @param model in memory.
 * @param reference block `index` in full precision, asked for where the weights behind codes begin as those.
 * @throws QAT_NOTHING when nothing is trained; ABORTED when the signal is; what `quantizerOf` throws.
 */
export function prepareModel(
  model: Model,
  request: PrepareRequest,
  reference: (index: number) => Promise<Block>,
): Promise<Prepared<Model>> {
  const dense = rememberLast(reference);
  const targeted = model.blocks.filter(({ path, linears }) => Object.keys(linears).some((name) => request.optionsFor(`${path}.${name}`)));
  return prepareTree(request, {
    linears: model.blocks.flatMap((block, i) => linearsOf(block, `${block.path}.`, () => dense(i))),
    norms: [...targeted.flatMap((block) => Object.values(block.norms)), ...(targeted.length === model.blocks.length ? [model.norm] : [])],
    assemble: (linears) => model.with({ blocks: model.blocks.map((block) => withLinears(block, linears)) }),
  });
}

/** A Linear of a tree. */
interface NamedLinear {
  /** Below the tree. */
  readonly name: string;
  /** In the checkpoint. */
  readonly path: string;
  readonly linear: Linear;
  /** In full precision. */
  reference(): Promise<Linear>;
}

/** Gives what it gave where it is asked for the same again: blocks are read Linear by Linear, and one is held at a time. */
function rememberLast(reference: (index: number) => Promise<Block>): (index: number) => Promise<Block> {
  let last: { readonly index: number; readonly block: Promise<Block> } | undefined;
  return (index) => {
    if (last?.index !== index) last = { index, block: reference(index) };
    return last.block;
  };
}

function linearsOf(block: Block, prefix: string, reference: () => Promise<Block>): NamedLinear[] {
  return Object.entries(block.linears).map(([name, linear]) => ({
    name: `${prefix}${name}`,
    path: `${block.path}.${name}`,
    linear,
    reference: async () => (await reference()).linears[name],
  }));
}

function withLinears(block: Block, linears: ReadonlyMap<string, Linear>): Block {
  const own = Object.keys(block.linears).flatMap((name): [string, Linear][] => {
    const linear = linears.get(`${block.path}.${name}`);
    return linear ? [[name, linear]] : [];
  });
  return block.with({ linears: Object.fromEntries(own) });
}

/** How a tree is taken apart and put together. */
interface Layout<Tree> {
  readonly linears: readonly NamedLinear[];
  readonly norms: readonly Norm[];
  /** The tree with some Linears replaced, by name. */
  assemble(linears: ReadonlyMap<string, Linear>): Tree;
}

async function prepareTree<Tree extends { map(map: TensorMap): Tree }>(
  request: PrepareRequest,
  { linears, norms, assemble }: Layout<Tree>,
): Promise<Prepared<Tree>> {
  const { backend, signal } = request;
  const trained: TrainedLinear[] = [];
  for (const named of linears) {
    throwIfAborted(signal);
    const options = request.optionsFor(named.path);
    if (options) trained.push(await trainedLinear(backend, named, options));
  }
  if (trained.length === 0) throw new LowbitError('QAT_NOTHING', "qat: no Linear is targeted; change this step's targets");
  const shell = assemble(new Map(trained.map(({ name, replace, standIn }) => [name, replace(standIn.linear)])));
  const names = new Map([...tensorsOf(shell)].map(([name, t]) => [t, name]));
  const nameOf = (t: Tensor): string => names.get(t) as string;
  const normTensors = (request.trainNorms ? norms : []).flatMap(({ weight, bias }) => [weight, bias]).filter((t) => t !== undefined);
  const normEntries = normTensors.map((t): [string, Tensor] => [nameOf(t), t]);
  const linearAt = new Map(
    trained.flatMap((linear) => [...linear.quantizer.start.keys()].map((role) => [`${linear.name}.${role}`, linear])),
  );

  const units = trained.map((linear) => unitOf(linear, nameOf));
  const normsAt = (values: NamedTensors): [string, Tensor][] => normEntries.map(([name]) => [name, values.get(name) as Tensor]);
  const parameters = new Map([...trained.flatMap(({ name, quantizer }) => [...prefixed(name, quantizer.start)]), ...normEntries]);
  return {
    shell,
    parameters,
    roleOf: (name) => (!linearAt.has(name) ? 'norm' : name.endsWith('.latent') ? 'latent' : 'grid'),
    gradientScale: (name) => (name.endsWith('.latent') ? 1 : (linearAt.get(name)?.quantizer.gradientScale ?? 1)),
    async tensorsFor(values) {
      requireAll(values, parameters);
      const computed = await Promise.all(units.map((unit) => unit.expressions(values)));
      return new Map([...computed.flatMap((tensors) => [...tensors]), ...normsAt(values)]);
    },
    lossOf: (loss) => reparameterized(backend, loss, units),
    async convert(values) {
      requireAll(values, parameters);
      const converted = new Map<string, Linear>();
      for (const linear of trained) converted.set(linear.name, await convertedLinear(backend, linear, values));
      return withParameters(assemble(converted), new Map(normsAt(values)));
    },
  };
}

/** @throws TRAIN_PARAMETER when a parameter has no value, or one of another shape. */
function requireAll(values: NamedTensors, parameters: NamedTensors): void {
  for (const [name, { shape }] of parameters) {
    const value = values.get(name);
    if (value && sameShape(value.shape, shape)) continue;
    const problem = value ? `has the shape ${formatShape(value.shape)} in place of ${formatShape(shape)}` : 'is missing';
    throw new LowbitError('TRAIN_PARAMETER', `qat: the value of '${name}' ${problem}; pass one for each of the parameters`);
  }
}

interface TrainedLinear {
  readonly name: string;
  readonly quantizer: FakeQuantizer;
  readonly standIn: StandIn;
  readonly bias: Tensor | undefined;
  /** What wraps the layer, around another one. */
  replace(linear: Linear): Linear;
}

async function trainedLinear(
  backend: Backend,
  { name, path, linear, reference }: NamedLinear,
  options: WeightOptions,
): Promise<TrainedLinear> {
  const part = trainedPart(linear, path);
  const quantizer = await quantizerOf({
    backend,
    linear: part.linear,
    path,
    options,
    async reference() {
      const { weight } = requireDense(quantizablePart(await reference()).linear, path);
      const [latent] = await backend.evaluate([part.latentFrom(weight)]);
      return readFloats(latent);
    },
  });
  const { inFeatures, outFeatures } = part.linear;
  const { bias } = part.linear as DenseLinear | QuantizedLinear;
  const { frozen } = quantizer;
  const standIn = frozen ? frozenStandIn(frozen, bias, path) : denseStandIn([outFeatures, inFeatures], bias, path);
  return { name, quantizer, standIn, bias, replace: part.replace };
}

const prefixed = (name: string, tensors: NamedTensors): [string, Tensor][] => [...tensors].map(([role, t]) => [`${name}.${role}`, t]);

/** The weight that values of a Linear's parameters stand for. */
function quantizedAt({ name, quantizer }: TrainedLinear, values: NamedTensors): FakeQuantized | Promise<FakeQuantized> {
  return quantizer.quantized(new Map([...quantizer.start.keys()].map((role) => [role, values.get(`${name}.${role}`) as Tensor])));
}

function unitOf(linear: TrainedLinear, nameOf: (t: Tensor) => string): ParameterUnit {
  return {
    parameters: [...linear.quantizer.start.keys()].map((role) => `${linear.name}.${role}`),
    async expressions(values) {
      const standIns = linear.standIn.expressions(await quantizedAt(linear, values));
      return new Map(standIns.map(([t, value]) => [nameOf(t), value]));
    },
  };
}

async function convertedLinear(backend: Backend, linear: TrainedLinear, values: NamedTensors): Promise<Linear> {
  const stored = storedWeight(await quantizedAt(linear, values));
  const expressions = [...tensorsOf(stored).values()];
  const leaves = await backend.evaluate(expressions);
  const computed = new Map(expressions.map((t, i) => [t, leaves[i]]));
  return linear.replace(
    new QuantizedLinear(
      stored.map((t) => computed.get(t) ?? t),
      linear.bias,
    ),
  );
}
