// One step's walk over the blocks: targets, Linears, refinement, store, activations.
import { type Block, type BlockContext, batchesOf, LowbitError, type Model, materialize, type Tensor, throwIfAborted } from '@lowbit/core';
import { DenseStream, embed, forwardAll } from './activations.js';
import type { PlannedStep } from './plan.js';
import { type BlockWork, once, quantizeLinears, requireReference, statisticsByPath } from './quantize-linears.js';
import { evaluateTree, hasExpressions, resolveTree } from './resolve.js';
import { entryKey, inStage, methodContext, type Run } from './run.js';
import { foldsStatistics, type StatisticsByPath } from './statistics.js';
import { decodeBlock, storeBlock } from './stored-block.js';
import { WalkProgress } from './walk-progress.js';

/** A block after its turn, and the stream that goes on from it (empty once nothing reads it). */
interface Passed {
  readonly block: Block;
  readonly stream: Tensor[];
}

/**
 * Applies a step's `quantizeLinear` and `refineBlock` block by block, one block in memory at a time when the weights come from files
 * and the finished blocks go to one. Blocks that the step does not target are only passed through; after the last block that reads
 * activations no forward pass is made, and none at all for a data-free method.
 * @param dense the model in which nothing is quantized, in the same basis; undefined when there is none any more.
 * @throws CALIBRATION_EMPTY when the step reads activations and there are none.
 */
export async function quantizeBlocks(run: Run, planned: PlannedStep, model: Model, dense: Model | undefined): Promise<Model> {
  const walk = new BlockWalk(run, planned, model, dense);
  let stream = await walk.start();
  const blocks: Block[] = [];
  for (const [i, given] of model.blocks.entries()) {
    throwIfAborted(run.signal);
    const started = performance.now();
    const passed = await walk.pass(i, stream);
    stream = passed.stream;
    blocks.push(passed.block);
    const milliseconds = performance.now() - started;
    run.emit({ type: 'block-done', step: planned.index, path: given.path, done: i + 1, total: model.blocks.length, milliseconds });
  }
  return model.with({ blocks });
}

class BlockWalk {
  readonly #run: Run;
  readonly #planned: PlannedStep;
  readonly #model: Model;
  readonly #dense: Model | undefined;
  readonly #statistics: StatisticsByPath;
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
    this.#denseStream = new DenseStream(run, dense ?? model);
    this.#lastReader = model.blocks.findLastIndex((block) => this.#readsActivations(block));
    this.#progress = new WalkProgress(
      run.emit,
      planned.index,
      model.blocks.map((block, index) => this.#units(block, index)),
    );
  }

  /** The stream that enters the first block. */
  async start(): Promise<Tensor[]> {
    if (this.#lastReader < 0) return [];
    if (this.#run.calibration.length === 0) {
      const { name } = this.#planned.step.method;
      throw new LowbitError('CALIBRATION_EMPTY', `${name}: reads activations and got no calibration batches; pass calibration data`);
    }
    return embed(this.#run, this.#model);
  }

  /** Takes the stream that enters block `index` through it. */
  async pass(index: number, stream: Tensor[]): Promise<Passed> {
    const given = this.#model.blocks[index];
    this.#progress.enter(index);
    const isReader = index <= this.#lastReader;
    if (!isReader && !this.#isTargeted(given) && !hasExpressions(given)) return { block: given, stream: [] };
    const { propagate, backend } = this.#run;
    const leavesStream = index < this.#lastReader;
    const stored = await this.#storedBlock(given);
    const original = stored && propagate === 'quantized' ? undefined : await resolveTree(backend, given);

    const refines = this.#isTargeted(given) && !stored && this.#planned.step.method.refineBlock !== undefined;
    const needsTargets = refines || (leavesStream && propagate === 'dense');
    const targets =
      original && needsTargets ? await forwardAll(this.#run, original, stream, [], () => this.#progress.advance(given.path)) : [];
    const block = stored ? await materialize(stored) : await this.#quantize(index, original ?? given, stream, targets);

    const outputs = leavesStream ? await this.#propagate(block, stream, targets) : [];
    return { block: stored ?? (await this.#keep(given, block)), stream: outputs };
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

  /** The block as an earlier run under the same key left it: equal keys mean equal inputs, so it is what this run would make. */
  async #storedBlock(template: Block): Promise<Block | undefined> {
    const { storage, emit } = this.#run;
    if (!storage?.kinds) return undefined;
    const entry = await storage.store.get(this.#entryKey(storage.key, template));
    if (!entry) return undefined;
    emit({ type: 'log', step: this.#planned.index, path: template.path, record: { reusedFromStore: true } });
    return decodeBlock(template, entry, storage.kinds);
  }

  #entryKey(runKey: string, block: Block): string {
    return entryKey(runKey, this.#planned.index, 'block', block.path);
  }

  async #quantize(index: number, original: Block, inputs: readonly Tensor[], targets: readonly Tensor[]): Promise<Block> {
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
    const quantized = method.quantizeLinear ? await quantizeLinears(work) : original;
    return method.refineBlock ? this.#refine(index, quantized, work, targets) : quantized;
  }

  async #refine(index: number, block: Block, { original, inputs, dense }: BlockWork, targets: readonly Tensor[]): Promise<Block> {
    const { method, options } = this.#planned.step;
    const units = this.#run.calibration.length;
    const shared = await methodContext(this.#run, this.#planned, 'refine', block.path, options, this.#progress.within(block.path, units));
    const reference = once(async () => resolveTree(this.#run.backend, requireReference(dense, block.path)));
    // What the block gives without this step is what it gives in full precision, unless an earlier step has quantized it.
    const isDenseStream = this.#run.propagate === 'dense' && dense === original;
    const context: BlockContext<unknown> = {
      ...shared,
      path: block.path,
      inputs: batchesOf(inputs),
      targets: batchesOf(targets),
      denseTargets: async () => batchesOf(isDenseStream ? targets : await this.#denseStream.after(index, await reference())),
      reference,
      optionsFor: (name) => this.#planned.options.get(`${block.path}.${name}`),
    };
    const refined = await inStage(this.#planned, block.path, async () => method.refineBlock?.(block, context) ?? block);
    this.#progress.advance(block.path, units);
    return evaluateTree(this.#run.backend, refined);
  }

  async #propagate(block: Block, stream: Tensor[], targets: Tensor[]): Promise<Tensor[]> {
    if (this.#run.propagate === 'dense') return targets;
    return forwardAll(this.#run, block, stream, stream, () => this.#progress.advance(block.path));
  }

  /** The finished block, reading from the store where there is one. One that was only passed through goes on reading where it did. */
  async #keep(given: Block, block: Block): Promise<Block> {
    if (!this.#isTargeted(given) && !hasExpressions(given)) return given;
    const { storage } = this.#run;
    return storage ? storeBlock(storage.store, this.#entryKey(storage.key, given), block) : block;
  }
}
