// One step's walk over the blocks: targets, Linears, refinement, store, activations.
import { type Block, type BlockContext, type Linear, LowbitError, type Model, materialize, type Norm, throwIfAborted } from '@lowbit/core';
import { noStream, type Stream, Streams } from './activations.js';
import { DenseStream } from './dense-stream.js';
import { judgeBlock } from './judge-linears.js';
import type { PlannedStep } from './plan.js';
import { type BlockWork, once, type QuantizedBlock, quantizeLinears, requireReference, statisticsByPath } from './quantize-linears.js';
import { evaluateTree, hasExpressions, resolveTree } from './resolve.js';
import { entryKey, inStage, methodContext, type Run } from './run.js';
import { foldsStatistics, type StatisticsByPath } from './statistics.js';
import { decodeTurn, type StreamsAfter, storePassed, storeTurn } from './stored-block.js';
import { WalkProgress } from './walk-progress.js';

/** A block after its turn, and the stream that goes on from it (empty once nothing reads it). */
interface Passed {
  readonly block: Block;
  readonly stream: Stream;
}

/**
 * Applies a step's `quantizeLinear` and `refineBlock` block by block, one block in memory at a time when the weights come from files
 * and the finished blocks go to one. Blocks that the step does not target are only passed through; after the last block that reads
 * activations no forward pass is made, and none at all for a data-free method. Blocks that an earlier run has finished are not
 * computed again, nor is any activation: the walk goes on with those that left the last of them.
 * @param dense the model in which nothing is quantized, in the same basis; undefined when there is none any more.
 * @throws CALIBRATION_EMPTY when the step reads activations and there are none.
 */
export async function quantizeBlocks(run: Run, planned: PlannedStep, model: Model, dense: Model | undefined): Promise<Model> {
  const walk = new BlockWalk(run, planned, model, dense);
  const { blocks, last } = await walk.reuse();
  run.told();
  const total = model.blocks.length;
  const report = (index: number, milliseconds: number): void =>
    run.emit({ type: 'block-done', step: planned.index, path: model.blocks[index].path, done: index + 1, total, milliseconds });
  for (const i of blocks.keys()) report(i, 0);
  let stream = blocks.length < total ? await walk.start(blocks, last) : noStream;
  for (let i = blocks.length; i < total; i++) {
    throwIfAborted(run.signal);
    const started = performance.now();
    const passed = await walk.pass(i, stream);
    stream = passed.stream;
    blocks.push(passed.block);
    report(i, performance.now() - started);
  }
  await walk.finish();
  return model.with({ blocks });
}

class BlockWalk {
  readonly #run: Run;
  readonly #planned: PlannedStep;
  readonly #model: Model;
  readonly #dense: Model | undefined;
  readonly #statistics: StatisticsByPath;
  readonly #streams: Streams;
  readonly #denseStream: DenseStream;
  /** Index of the last block whose method reads activations; −1 when none does. */
  readonly #lastReader: number;
  readonly #progress: WalkProgress;

  constructor(run: Run, planned: PlannedStep, model: Model, dense: Model | undefined) {
    this.#run = run;
    this.#planned = planned;
    this.#model = model;
    this.#dense = dense;
    this.#statistics = statisticsByPath(planned);
    this.#streams = new Streams(run, planned.index);
    this.#denseStream = new DenseStream(run, this.#streams, dense ?? model);
    this.#lastReader = model.blocks.findLastIndex((block) => this.#readsActivations(block));
    this.#progress = new WalkProgress(
      run.emit,
      planned.index,
      model.blocks.map((block, index) => this.#units(block, index)),
    );
  }

  /**
   * The blocks from the first on whose turn an earlier run under the same identity has finished: equal inputs, so they are what this
   * run would make. `last`: what the last of them left.
   */
  async reuse(): Promise<{ blocks: Block[]; last: StreamsAfter | undefined }> {
    const { storage, emit } = this.#run;
    const blocks: Block[] = [];
    let last: StreamsAfter | undefined;
    if (!storage?.kinds) return { blocks, last };
    for (const [index, given] of this.#model.blocks.entries()) {
      const entry = this.#isWorked(index) ? await storage.get(this.#entryKey(given)) : undefined;
      if (this.#isWorked(index) && !entry) break;
      const turn = entry && decodeTurn(given, entry, storage.kinds);
      if (turn) emit({ type: 'log', step: this.#planned.index, path: given.path, record: { reusedFromStore: true } });
      for (const event of turn?.events ?? []) emit(event);
      blocks.push(turn?.block ?? given);
      last = turn?.after ?? last;
    }
    return { blocks, last };
  }

  /** The stream that enters the first block, or the one after those that were reused. */
  async start(reused: readonly Block[], last: StreamsAfter | undefined): Promise<Stream> {
    if (last?.dense) await this.#denseStream.restore(last.dense);
    if (last && last.stream === undefined) return noStream;
    const left = last?.stream !== undefined && (await this.#streams.restore(last.stream));
    return left || this.#streamAfter(reused);
  }

  /** From the embedding through blocks that are done: when there are none yet, or when the activations that left them are not there any more. */
  async #streamAfter(done: readonly Block[]): Promise<Stream> {
    if (this.#lastReader < 0) return noStream;
    if (this.#run.calibration.length === 0) {
      const { name } = this.#planned.step.method;
      throw new LowbitError('CALIBRATION_EMPTY', `${name}: reads activations and got no calibration batches; pass calibration data`);
    }
    let stream = await this.#streams.embed(this.#model, 'inputs-0');
    for (const [index, block] of done.entries()) {
      const passed = await resolveTree(this.#run.backend, this.#run.propagate === 'dense' ? this.#model.blocks[index] : block);
      const before = stream;
      stream = await this.#streams.forward(passed, before, { name: `inputs-${index + 1}`, isKept: index === done.length - 1 }, true);
      this.#streams.discard(before);
    }
    return stream;
  }

  /** Takes the stream that enters block `index` through it. */
  async pass(index: number, stream: Stream): Promise<Passed> {
    const given = this.#model.blocks[index];
    this.#progress.enter(index);
    if (!this.#isWorked(index)) return { block: given, stream: noStream };
    const isDense = this.#run.propagate === 'dense';
    const leavesStream = index < this.#lastReader;
    const refines = this.#isTargeted(given) && this.#planned.step.method.refineBlock !== undefined;
    const onBatch = (): void => this.#progress.advance(given.path);
    const toTargets = { name: `targets-${index}`, isKept: leavesStream && isDense };
    const needsTargets = refines || toTargets.isKept;
    const original = await this.#resolve(given, needsTargets);
    const targets = needsTargets ? await this.#streams.forward(original, stream, toTargets, false, onBatch) : noStream;
    const block = await this.#quantize(index, original, stream, targets);

    const toOutputs = { name: `inputs-${index + 1}`, isKept: true };
    const propagated = leavesStream && !isDense ? await this.#streams.forward(block, stream, toOutputs, true, onBatch) : noStream;
    const outputs = leavesStream && isDense ? targets : propagated;
    this.#streams.discard(stream);
    if (outputs !== targets) this.#streams.discard(targets);
    return { block: await this.#keep(given, block, outputs), stream: outputs };
  }

  /** After the last block. */
  async finish(): Promise<void> {
    this.#denseStream.discard();
    await this.#run.storage?.sweep();
  }

  /**
   * The block in memory. Where nobody runs it before it is quantized, without the Linears that will be: each is read when its turn comes,
   * and seen only as what became of it by those after it.
   */
  async #resolve(given: Block, isRun: boolean): Promise<Block> {
    const { backend } = this.#run;
    if (isRun || !this.#planned.step.method.quantizeLinear) return resolveTree(backend, given);
    const block = await evaluateTree(backend, given);
    const waits = (name: string): boolean => this.#planned.options.has(`${block.path}.${name}`);
    const others = Object.entries(block.linears).filter(([name]) => !waits(name));
    const linears = await Promise.all(others.map(async ([name, linear]): Promise<[string, Linear]> => [name, await materialize(linear)]));
    const norms = await Promise.all(
      Object.entries(block.norms).map(async ([name, norm]): Promise<[string, Norm]> => [name, await materialize(norm)]),
    );
    return block.with({ linears: Object.fromEntries(linears), norms: Object.fromEntries(norms) });
  }

  /** Whether the block has a turn: the step changes it, or has to take a stream through it. */
  #isWorked(index: number): boolean {
    return index <= this.#lastReader || this.#changes(this.#model.blocks[index]);
  }

  #changes(given: Block): boolean {
    return this.#isTargeted(given) || hasExpressions(given);
  }

  #isTargeted(block: Block): boolean {
    return Object.keys(block.linears).some((name) => this.#planned.options.has(`${block.path}.${name}`));
  }

  #readsActivations(block: Block): boolean {
    if (this.#planned.step.method.refineBlock) return this.#isTargeted(block);
    return Object.keys(block.linears).some((name) => this.#statistics.has(`${block.path}.${name}`));
  }

  /** Units of progress that a block is worth: batches and Linears. */
  #units(block: Block, index: number): number {
    const { method } = this.#planned.step;
    const batches = this.#run.calibration.length;
    const isRefined = this.#isTargeted(block) && method.refineBlock !== undefined;
    const linears = Object.keys(block.linears).filter((name) => this.#planned.options.has(`${block.path}.${name}`)).length;
    const folds = block.groups.filter((group) => foldsStatistics(this.#statistics, block, group)).length;
    const targets = isRefined || (index < this.#lastReader && this.#run.propagate === 'dense') ? 1 : 0;
    const outputs = index < this.#lastReader && this.#run.propagate === 'quantized' ? 1 : 0;
    return (method.quantizeLinear ? linears : 0) + batches * (folds + targets + outputs + (isRefined ? 1 : 0));
  }

  #entryKey(block: Block): string {
    return entryKey(this.#planned.index, 'block', block.path);
  }

  async #quantize(index: number, original: Block, inputs: Stream, targets: Stream): Promise<Block> {
    if (!this.#isTargeted(original)) return original;
    const { method } = this.#planned.step;
    const dense = this.#dense === this.#model ? original : this.#dense?.blocks[index];
    const work = {
      run: this.#run,
      planned: this.#planned,
      model: this.#model,
      original,
      inputs,
      dense,
      statistics: this.#statistics,
      progress: this.#progress,
    };
    const quantized = method.quantizeLinear ? await quantizeLinears(work) : { block: original, starved: new Set<string>() };
    return method.refineBlock ? this.#refine(index, quantized, work, targets) : quantized.block;
  }

  async #refine(
    index: number,
    { block, starved }: QuantizedBlock,
    { original, inputs, dense }: BlockWork,
    targets: Stream,
  ): Promise<Block> {
    const { method, options } = this.#planned.step;
    const optionsFor = (name: string): unknown => (starved.has(name) ? undefined : this.#planned.options.get(`${block.path}.${name}`));
    const names = Object.keys(block.linears).filter((name) => optionsFor(name) !== undefined);
    if (names.length === 0) return block;
    const units = this.#run.calibration.length;
    const shared = await methodContext(this.#run, this.#planned, 'refine', block.path, options, this.#progress.within(block.path, units));
    const reference = once(async () => resolveTree(this.#run.backend, requireReference(dense, block.path)));
    // What the block gives without this step is what it gives in full precision, unless an earlier step has quantized it.
    const isDenseStream = this.#run.propagate === 'dense' && dense === original;
    const context: BlockContext<unknown> = {
      ...shared,
      path: block.path,
      inputs,
      targets,
      denseTargets: async () => (isDenseStream ? targets : this.#denseStream.after(index, await reference())),
      reference,
      optionsFor,
    };
    const started = performance.now();
    const made = await inStage(this.#planned, block.path, async () => method.refineBlock?.(block, context) ?? block);
    const left = Object.fromEntries([...starved].map((name): [string, Linear] => [name, block.linears[name]]));
    const refined = await evaluateTree(this.#run.backend, made.with({ linears: left }));
    this.#progress.advance(block.path, units);
    const milliseconds = (performance.now() - started) / names.length;
    await judgeBlock(this.#run, this.#planned, { block: refined, dense: dense && (await reference()), inputs, names, milliseconds });
    return refined;
  }

  /**
   * Stores that the block's turn is over, and with which activations a resumed run goes on; then what the turn before left can go. The block
   * reads from the store where there is one; one that was only passed through goes on reading where it did.
   */
  async #keep(given: Block, block: Block, outputs: Stream): Promise<Block> {
    const { storage } = this.#run;
    const isChanged = this.#changes(given);
    const events = this.#run.told();
    if (!storage) return isChanged ? block : given;
    const dense = this.#denseStream.state;
    const after: StreamsAfter = { ...(outputs.key !== undefined && { stream: outputs.key }), ...(dense && { dense }) };
    const key = this.#entryKey(given);
    const kept = isChanged ? await storeTurn(storage, key, block, { after, events }) : given;
    if (!isChanged) await storePassed(storage, key, { after, events });
    await storage.sweep();
    return kept;
  }
}
