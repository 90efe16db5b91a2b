// The contract of a quantization method: a function of options that returns a step of a recipe.
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { Backend } from './backend.js';
import type { Batches, TokenBatches } from './batches.js';
import type { Block } from './block.js';
import { LowbitError } from './errors.js';
import type { Linear } from './linear.js';
import type { Model } from './model.js';
import type { Rng } from './rng.js';
import type { Statistic } from './statistic.js';
import type { StoreEntry } from './store.js';
import type { FinetuneTask } from './task.js';
import type { Tensor } from './tensor.js';

/** What every stage of a method is given. */
export interface MethodContext<Options> {
  readonly backend: Backend;
  /** Parsed options; per-layer overrides are applied already where the stage works on one layer. */
  readonly options: Options;
  /** Randomness addressed by step and by what the stage works on. */
  readonly rng: Rng;
  readonly signal: AbortSignal | undefined;
  /** Reports progress within the stage. */
  progress(done: number, total: number): void;
  /** What an interrupted stage saved last, if the run was resumed. */
  readonly saved: StoreEntry | undefined;
  /** Saves the state of a long stage so that it can resume. */
  save(entry: StoreEntry): Promise<void>;
  /** Adds a JSON record to the run's log: losses, damping, choices. */
  log(record: Readonly<Record<string, unknown>>): void;
  /** Emits a warning event: something is off but the run goes on. */
  warn(code: string, message: string): void;
}

/** Before anything else: function-preserving rewrites of the whole model, whatever the targets. */
export interface TransformContext<Options> extends MethodContext<Options> {
  readonly calibration: TokenBatches;
}

/** One targeted Linear, in group order. */
export interface LinearContext<Options> extends MethodContext<Options> {
  /** Path in the checkpoint: 'model.layers.3.mlp.down_proj'. */
  readonly path: string;
  /** Leaves by statistic name, of the inputs of this Linear's group. */
  readonly stats: Readonly<Record<string, Tensor>>;
  /** Rows (tokens) that the statistics were folded over. */
  readonly rows: number;
  /**
   * The same Linear in full precision: what earlier steps quantized, in the basis that earlier transforms put it in. The Linear itself
   * in a recipe's first quantizing step. For corrections of a quantized weight.
   * @throws REFERENCE_LOST when a step has transformed the model after one had quantized it.
   */
  reference(): Promise<Linear>;
  /**
   * The whole model as it is when the walk over its Linears begins, after the step's own `transform`: for what depends on the shapes and
   * the storage of all Linears together, a budget for example. Its weights may lie in files or be expressions; Linears before this one
   * have become others since.
   */
  readonly model: Model;
  /** Options that hold for a Linear by path, overrides applied; undefined when the step does not target it. */
  optionsFor(path: string): Options | undefined;
}

/** One block, after its Linears have been quantized. */
export interface BlockContext<Options> extends MethodContext<Options> {
  readonly path: string;
  /** Inputs of the block, [batch, tokens, width]: the stream that the runner propagates. */
  readonly inputs: Batches;
  /** What the block gave on the same inputs before this step touched it. */
  readonly targets: Batches;
  /**
   * What the model gives after this block when no block is quantized, by this step or an earlier one, in the basis that transforms put it
   * in: the target of EfficientQAT's Block-AP and of ApiQ. Computed when first asked for, one dense block a call from then on; what it
   * gave holds until the next block asks.
   * @throws REFERENCE_LOST when a step has transformed the model after one had quantized it.
   */
  denseTargets(): Promise<Batches>;
  /**
   * The block in full precision, in memory: what earlier steps quantized, in the basis that earlier transforms put it in. The block as
   * this step was given it in a recipe's first quantizing step.
   * @throws REFERENCE_LOST when a step has transformed the model after one had quantized it.
   */
  reference(): Promise<Block>;
  /** Options that hold for a Linear of the block, overrides applied; undefined when the step does not target it, or when too few tokens reach it. */
  optionsFor(linearName: string): Options | undefined;
}

/** The whole model, after all blocks. */
export interface FinetuneContext<Options> extends MethodContext<Options> {
  /** The model as it was before the recipe. */
  readonly reference: Model;
  readonly calibration: TokenBatches;
  /**
   * Block `index` in full precision, in memory: what earlier steps quantized, in the basis that earlier transforms put it in. The block as
   * this step was given it where nothing has been quantized. Computed anew at every call, so that few blocks need be in memory.
   * @throws REFERENCE_LOST when a step has transformed the model after one had quantized it.
   */
  referenceBlock(index: number): Promise<Block>;
  /** What to tune for, if the run was given a task; only a method whose aim is 'task' has a use for it. */
  readonly task?: FinetuneTask | undefined;
  /** Options that hold for a Linear by path, overrides applied; undefined when the step does not target it. */
  optionsFor(path: string): Options | undefined;
}

/** Shape of a Linear, known before its weights are read. */
export interface LinearShape {
  readonly path: string;
  readonly kind: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
}

/** What a step works on, known before any weight is read. */
export interface Workload<Options> {
  readonly options: Options;
  /** Targeted Linears in the order of computation, each with the options that hold for it. */
  readonly linears: readonly (LinearShape & { readonly options: Options })[];
  /** Blocks that hold a targeted Linear. */
  readonly blocks: number;
  /** Elements of all Linears of all blocks. */
  readonly weights: number;
  /** Of the residual stream. */
  readonly width: number;
  readonly vocabularySize: number;
  /** Calibration windows, or those of the run's task for a method that is after it; and tokens of each. */
  readonly windows: number;
  readonly tokens: number;
  /** A forward pass of one window through all blocks, and its largest moment in one block. */
  readonly forward: Cost;
}

/** What work takes. Costs add up, but for `bytes`, of which the largest moment counts. */
export interface Cost {
  /** Floating-point operations in matrix products, 2·m·k·n each. */
  readonly flops: number;
  /** Values computed by elementwise kernels. A loop on the host takes as long for one as a kernel for some ten. */
  readonly elements: number;
  /** Working memory at the largest moment. */
  readonly bytes: number;
}

/** Statistics that depend on options. Taken from a method signature, so that a step of any options is a `Step`. */
type StatisticsFor<Options> = { of(options: Options): Readonly<Record<string, Statistic>> }['of'];

/**
 * What a finetune is after: the answers of the model before the recipe; what the calibration's text says next; or the run's task, with the
 * calibration's text where there is none. Text and task may lead away from that model: the runner warns where the divergence from it has
 * risen only if the aim is 'reference'.
 */
export type FinetuneAim = 'reference' | 'text' | 'task';

/** An aim that depends on options. */
type AimFor<Options> = { of(options: Options): FinetuneAim }['of'];

/** A method. Absent stages are skipped; what a stage returns replaces what it was given. */
export interface MethodDefinition<Schema extends StandardSchemaV1 = StandardSchemaV1, Options = StandardSchemaV1.InferOutput<Schema>> {
  readonly name: string;
  /** Raised whenever equal options give other weights: it keys checkpoints and benchmark rows. */
  readonly version: number;
  /** One line for listings. */
  readonly description?: string;
  readonly options: Schema;
  /**
   * Kind of the Linears that the method makes, so that a plan can check the steps after it before any of them runs: of all that
   * `quantizeLinear` is given; without that stage, of the targeted ones that are dense, while others keep their kind.
   */
  readonly makes?: string;
  /** Statistics of each group's inputs that `quantizeLinear` reads; a function when they depend on options. */
  readonly statistics?: Readonly<Record<string, Statistic>> | StatisticsFor<Options>;
  /** Throws, before any weight is read, when a targeted layer cannot be handled with these options. */
  check?(linear: LinearShape, options: Options): void;
  /**
   * Throws, before any weight is read, when a model as a whole cannot be handled with these options: its width, its norms, its kinds of
   * layers. Called when the step begins, and before any data is prepared for a recipe's first step, whose model is known by then.
   */
  checkModel?(model: Model, options: Options): void;
  /**
   * Whether `transform` and `finetune` read calibration batches with these options, so that none are prepared in vain. Default: they do.
   * What statistics and `refineBlock` need is known without.
   */
  readsCalibration?(options: Options): boolean;
  /**
   * What the step takes beside the runner's own walk (reading weights, statistics, forward passes between blocks), for a plan made before
   * any weight is read. Absent: nothing worth telling.
   */
  cost?(work: Workload<Options>): Cost;
  transform?(model: Model, context: TransformContext<Options>): Promise<Model>;
  quantizeLinear?(linear: Linear, context: LinearContext<Options>): Promise<Linear>;
  refineBlock?(block: Block, context: BlockContext<Options>): Promise<Block>;
  finetune?(model: Model, context: FinetuneContext<Options>): Promise<Model>;
  /** Aim of `finetune`; a function when it depends on options. Default: 'reference'. */
  readonly aim?: FinetuneAim | AimFor<Options>;
}

/** Settings every method accepts beside its own options; one that only transforms refuses them, since it sees the whole model. */
export interface StepSettings<Input> {
  /** Globs over Linear paths ('model.layers.*.mlp.*', '**.down_proj'); all Linears of all blocks by default. '!' negates. */
  readonly targets?: readonly string[];
  /** Other options for the Linears a glob matches; the last match wins. */
  readonly overrides?: Readonly<Record<string, Partial<Input>>>;
}

/** A method with its options: one entry of a recipe. */
export interface Step<Options = unknown> {
  readonly method: MethodDefinition<StandardSchemaV1, Options>;
  readonly options: Options;
  readonly targets: readonly string[];
  /** Fully parsed options by glob, in order. */
  readonly overrides: readonly { readonly glob: string; readonly options: Options }[];
}

/** A list of steps, applied in order. */
export type Recipe = readonly Step[];

/** Options as they are written. An empty schema infers `Record<string, never>`, which would forbid the settings beside it. */
type Written<Input> = (Input extends Record<string, never> ? unknown : Input) & StepSettings<Input>;

/** What `defineMethod` returns: call it with options to get a step. */
export interface Method<Schema extends StandardSchemaV1 = StandardSchemaV1> {
  (options?: Written<StandardSchemaV1.InferInput<Schema>>): Step<StandardSchemaV1.InferOutput<Schema>>;
  readonly definition: MethodDefinition<Schema>;
}

/** Every Linear of every block. */
export const DEFAULT_TARGETS: readonly string[] = ['**'];

/**
 * Makes a method from its definition. Options are parsed when the step is written.
 * @throws OPTIONS_INVALID naming the method, the option and what it expects.
 */
export function defineMethod<Schema extends StandardSchemaV1>(definition: MethodDefinition<Schema>): Method<Schema> {
  const create = (input: Record<string, unknown> & StepSettings<Record<string, unknown>> = {}): Step => {
    requireRecord(definition.name, 'options', input);
    const { targets = DEFAULT_TARGETS, overrides = {}, ...options } = input;
    requireRecord(definition.name, 'overrides', overrides);
    for (const [glob, changed] of Object.entries(overrides)) requireRecord(definition.name, `overrides '${glob}'`, changed);
    if (!Array.isArray(targets) || targets.some((glob) => typeof glob !== 'string')) {
      throw new LowbitError('OPTIONS_INVALID', `${definition.name}: targets must be a list of globs`);
    }
    return {
      method: definition as unknown as MethodDefinition<StandardSchemaV1, unknown>,
      options: parseOptions(definition, options),
      targets,
      overrides: Object.entries(overrides).map(([glob, changed]) => ({
        glob,
        options: parseOptions(definition, { ...options, ...changed }, `${definition.name}: overrides '${glob}'`),
      })),
    };
  };
  return Object.assign(create as unknown as Method<Schema>, { definition });
}

function requireRecord(method: string, what: string, value: unknown): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new LowbitError(
      'OPTIONS_INVALID',
      `${method}: ${what} must be an object, got ${value === null ? 'null' : Array.isArray(value) ? 'a list' : `a ${typeof value}`}`,
    );
  }
}

/** @param where a prefix of the message. */
function parseOptions(definition: MethodDefinition, options: unknown, where = definition.name): unknown {
  const result = definition.options['~standard'].validate(options);
  if (result instanceof Promise)
    throw new LowbitError('OPTIONS_SCHEMA', `${definition.name}: an options schema must validate synchronously`);
  if (!result.issues) return result.value;
  const problems = result.issues.map((issue) => {
    const path = (issue.path ?? []).map((part) => String(typeof part === 'object' ? part.key : part)).join('.');
    return path ? `${path}: ${issue.message}` : issue.message;
  });
  // An issue without a path is about the options together, most often a name that is none of them.
  const names = result.issues.some(({ path = [] }) => path.length === 0) ? optionNames(definition.options) : [];
  const known = names.length > 0 ? `; it takes ${[...names, 'targets', 'overrides'].join(', ')}` : '';
  throw new LowbitError('OPTIONS_INVALID', `${where}: ${problems.join('; ')}${known}`);
}

/** Names of the options, as far as the schema describes itself (Standard JSON Schema). */
function optionNames(schema: StandardSchemaV1): string[] {
  const standard = schema['~standard'] as { jsonSchema?: { input(options: { target: string }): { properties?: object } } };
  try {
    return Object.keys(standard.jsonSchema?.input({ target: 'draft-2020-12' }).properties ?? {});
  } catch {
    // JSON Schema has no words for some types; the specification lets a library throw for them.
    return [];
  }
}
