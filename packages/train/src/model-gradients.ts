// Loss and gradients of a whole model, one block at a time: what is kept between evaluations are the inputs of the blocks, and each
// block is computed once more inside its own backward graph (gradient checkpointing, arXiv 1604.06174).
import {
  add,
  type Backend,
  grad,
  LowbitError,
  type Model,
  mul,
  readFloats,
  readNumber,
  sum,
  type Tensor,
  type TensorMap,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import type { LossGradients } from './loss.js';
import type { NamedTensors } from './optimizer.js';
import { withParameters } from './with-parameters.js';

/** The loss of some positions as graphs. */
export interface PositionsTerms {
  /** What is minimised, a scalar. */
  readonly loss: Tensor;
  /** Scalars to report beside it. */
  readonly parts?: Readonly<Record<string, Tensor>> | undefined;
}

/**
 * Builds the loss of the positions start … end − 1, counted through all windows of a batch (or through the list of positions that was
 * asked for), from what the last block gives for them, [end − start, width]: `model.logits` has what follows. The loss of the batch is the sum over all positions.
 */
export type PositionsLoss = (model: Model, hidden: Tensor, start: number, end: number) => PositionsTerms | Promise<PositionsTerms>;

export interface ModelLossRequest {
  readonly backend: Backend;
  /** Its tensors are read at every evaluation: have them in memory. */
  readonly model: Model;
  /** int32 [batch, tokens] */
  readonly tokens: Tensor;
  readonly lossOf: PositionsLoss;
  /**
   * Positions that have a loss, in place of all: `lossOf` is given what the last block gives for them, in this order. One may be there several
   * times. Equally many make equal shapes.
   */
  readonly positions?: Int32Array | undefined;
  /** Positions whose logits exist at one time. Default: as many as make 2^23 logits, 32 MiB. */
  readonly positionsAtOnce?: number | undefined;
}

export interface ModelLoss {
  readonly loss: number;
  /** What `lossOf` reports, summed over all positions. */
  readonly parts: Readonly<Record<string, number>>;
}

export interface ModelGradients extends ModelLoss, LossGradients {}

/** Logits that exist at one time. */
const LOGITS = 2 ** 23;

/** The residual stream after the last block, [batch, tokens, width], one block evaluated at a time. */
export async function lastHidden(backend: Backend, model: Model, tokens: Tensor): Promise<Tensor> {
  return (await forward(backend, model, tokens, model.blocks.length)).hidden;
}

/** The loss of a model on a batch. */
export async function modelLoss(request: ModelLossRequest): Promise<ModelLoss> {
  const { backend, model, tokens } = request;
  const hidden = await lastHidden(backend, model, tokens);
  const total = new LossTotal();
  for (const piece of piecesOf(request, await readFloats(hidden))) {
    const terms = await request.lossOf(model, piece.hidden, piece.start, piece.end);
    await total.add(terms, await backend.evaluate([terms.loss, ...Object.values(terms.parts ?? {})]));
  }
  return total.result();
}

/**
 * The loss of a model on a batch, and its gradients for tensors of the model. Blocks of one structure share one program for the forward
 * pass and one for the backward pass; blocks below the first one with a parameter have no backward pass. Weights that a Linear
 * dequantizes live within an evaluation only.
 * @param request.parameters leaves by their names in the model, put in place of what is there; the gradients have the same names.
 * @throws TRAIN_PARAMETER when the model has no tensor of a name.
 */
export async function modelGradients(request: ModelLossRequest & { readonly parameters: NamedTensors }): Promise<ModelGradients> {
  const { backend, tokens, parameters } = request;
  const model = withParameters(request.model, parameters);
  const names = parameterNames(model, parameters);
  const leavesOf = (wanted: readonly string[]): Tensor[] => wanted.map((name) => parameters.get(name) as Tensor);
  const gradients = new GradientSum(backend);

  const { inputs, hidden } = await forward(backend, model, tokens, names.lowestBlock);
  const values = await readFloats(hidden);
  const total = new LossTotal();
  const hiddenGradient = new Float32Array(values.length);
  for (const piece of piecesOf(request, values)) {
    const terms = await request.lossOf(model, piece.hidden, piece.start, piece.end);
    const parts = Object.values(terms.parts ?? {});
    const wanted = grad(terms.loss, [piece.hidden, ...leavesOf(names.head)]);
    const results = await backend.evaluate([terms.loss, ...parts, ...wanted]);
    await total.add(terms, results);
    const [along, ...found] = results.slice(1 + parts.length);
    addRows(hiddenGradient, await readFloats(along), piece, request.positions);
    await gradients.add(names.head, found);
  }
  let upstream = tensor(hiddenGradient, hidden.shape);
  let spent = [hidden];
  for (let i = model.blocks.length - 1; i >= names.lowestBlock; i--) {
    const x = inputs[i - names.lowestBlock];
    // Of the lowest block too, though no parameter may need the gradient of its input: another graph would be another program.
    const wanted = grad(sum(mul(model.blocks[i].forward(x), upstream)), [x, ...leavesOf(names.blocks[i])]);
    const [below, ...found] = await backend.evaluate(wanted, { release: [...spent, x, upstream] });
    spent = [];
    await gradients.add(names.blocks[i], found);
    upstream = below;
  }
  if (names.embedding.length > 0) {
    const wanted = grad(sum(mul(model.embedding.forward(tokens), upstream)), leavesOf(names.embedding));
    await gradients.add(names.embedding, await backend.evaluate(wanted));
  }
  return { ...total.result(), gradients: gradients.result([...parameters.keys()]) };
}

/** Names of the parameters in each part of a model; a tensor that parts share is in both. */
interface ParameterNames {
  readonly embedding: readonly string[];
  readonly blocks: readonly (readonly string[])[];
  /** Of the last norm and the head. */
  readonly head: readonly string[];
  /** The first block that gradients must reach; the number of blocks when none is needed. */
  readonly lowestBlock: number;
}

function parameterNames(model: Model, parameters: NamedTensors): ParameterNames {
  const nameOf = new Map([...parameters].map(([name, t]) => [t, name]));
  const found = new Set<string>();
  const namesIn = (...trees: readonly { map(map: TensorMap): unknown }[]): string[] => {
    const names = trees.flatMap((tree) => [...tensorsOf(tree).values()].flatMap((t) => nameOf.get(t) ?? []));
    for (const name of names) found.add(name);
    return names;
  };
  const embedding = namesIn(model.embedding);
  const blocks = model.blocks.map((block) => namesIn(block));
  const head = namesIn(model.norm, model.head);
  const missing = [...parameters.keys()].find((name) => !found.has(name));
  if (missing !== undefined) {
    throw new LowbitError('TRAIN_PARAMETER', `modelGradients: the model has no tensor '${missing}'; name tensors as model.map does`);
  }
  const trained = embedding.length > 0 ? 0 : blocks.findIndex((names) => names.length > 0);
  return { embedding, blocks, head, lowestBlock: trained < 0 ? blocks.length : trained };
}

interface ForwardPass {
  /** Inputs of the blocks from `keepFrom` on. */
  readonly inputs: readonly Tensor[];
  /** Output of the last block. */
  readonly hidden: Tensor;
}

async function forward(backend: Backend, model: Model, tokens: Tensor, keepFrom: number): Promise<ForwardPass> {
  const inputs: Tensor[] = [];
  let [x] = await backend.evaluate([model.embedding.forward(tokens)]);
  for (const [i, block] of model.blocks.entries()) {
    const isKept = i >= keepFrom;
    if (isKept) inputs.push(x);
    [x] = await backend.evaluate([block.forward(x)], { release: isKept ? [] : [x] });
  }
  return { inputs, hidden: x };
}

/** Some positions of a batch. */
interface Piece {
  readonly start: number;
  readonly end: number;
  /** [end − start, width] */
  readonly hidden: Tensor;
}

function piecesOf({ model, tokens, positions, positionsAtOnce }: ModelLossRequest, hidden: Float32Array): Piece[] {
  const width = hidden.length / tokens.size;
  const count = positions?.length ?? tokens.size;
  const rows = positions ? rowsOf(hidden, positions, width) : hidden;
  const most = positionsAtOnce ?? Math.max(1, Math.floor(LOGITS / model.config.vocabularySize));
  // Pieces of equal size share a program: as few as may be, the last one perhaps smaller.
  const size = Math.ceil(count / Math.ceil(count / most));
  return Array.from({ length: Math.ceil(count / size) }, (_, i) => {
    const [start, end] = [i * size, Math.min((i + 1) * size, count)];
    return { start, end, hidden: tensor(rows.subarray(start * width, end * width), [end - start, width]) };
  });
}

/** Rows of [positions, width] by index. */
function rowsOf(values: Float32Array, indices: Int32Array, width: number): Float32Array {
  const rows = new Float32Array(indices.length * width);
  for (const [i, index] of indices.entries()) rows.set(values.subarray(index * width, (index + 1) * width), i * width);
  return rows;
}

/** Adds the gradient of a piece to that of all positions. */
function addRows(total: Float32Array, gradient: Float32Array, { start, end }: Piece, positions: Int32Array | undefined): void {
  const width = gradient.length / (end - start);
  for (let i = 0; i < gradient.length; i++) {
    const row = start + Math.floor(i / width);
    total[(positions ? positions[row] : row) * width + (i % width)] += gradient[i];
  }
}

/** Sums of the loss and its parts over pieces. */
class LossTotal {
  #loss = 0;
  readonly #parts: Record<string, number> = {};

  /** @param results elements of the loss, then of the parts. */
  async add({ parts = {} }: PositionsTerms, results: readonly Tensor[]): Promise<void> {
    this.#loss += await readNumber(results[0]);
    for (const [i, name] of Object.keys(parts).entries()) {
      this.#parts[name] = (this.#parts[name] ?? 0) + (await readNumber(results[1 + i]));
    }
  }

  result(): ModelLoss {
    return { loss: this.#loss, parts: this.#parts };
  }
}

/** Sums of gradients by name: pieces of the head each give one, and so does each part that shares a tensor. */
class GradientSum {
  readonly #backend: Backend;
  readonly #sums = new Map<string, Tensor>();

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  async add(names: readonly string[], gradients: readonly Tensor[]): Promise<void> {
    for (const [i, name] of names.entries()) {
      const known = this.#sums.get(name);
      const [total] = known ? await this.#backend.evaluate([add(known, gradients[i])], { release: [known, gradients[i]] }) : [gradients[i]];
      this.#sums.set(name, total);
    }
  }

  result(names: readonly string[]): NamedTensors {
    return new Map(names.map((name) => [name, this.#sums.get(name) as Tensor]));
  }
}
