// What a method's package brings so that others can repeat its figures: arms as data, and how to read what comes out.
import type { Backend } from './backend.js';
import type { Model, ModelConfig } from './model.js';
import type { Rng } from './rng.js';

/** A field of a row: what tables print and figures draw. */
export type ExperimentValue = string | number | boolean | null;

/** One line of an experiment's outcome. */
export type ExperimentRow = Readonly<Record<string, ExperimentValue>>;

/** A step of a recipe by its method's name: experiments compare with methods whose packages they do not import. */
export interface StepReference {
  readonly method: string;
  /** The method's options, `targets` and `overrides` among them. */
  readonly options?: Readonly<Record<string, unknown>>;
}

/** One thing to try. */
export interface ExperimentArm {
  /** Unique within the experiment. */
  readonly name: string;
  readonly recipe: readonly StepReference[];
  /** Fields of its rows: what is varied. */
  readonly parameters?: ExperimentRow;
  /** Calibration windows of this arm, where the amount of data is what is varied. */
  readonly calibrationWindows?: number;
}

/** Text that the model of every arm, and the dense one, is to write. */
export interface SampleRequest {
  readonly prompts: readonly string[];
  /** Tokens to add to each prompt at most. */
  readonly maxTokens: number;
  /** Divides the logits; 0, the default, takes the most probable token. Equal seeds draw the same numbers in every arm. */
  readonly temperature?: number;
}

/** How a model continued a prompt. */
export interface SampleText {
  readonly prompt: string;
  /** Without the prompt. */
  readonly text: string;
}

/** One arm on one model with one calibration seed, quantized and judged. */
export interface ArmOutcome {
  readonly arm: ExperimentArm;
  readonly model: string;
  readonly seed: number;
  /** Values by evaluator: 'loss-gap', 'perplexity', 'kl', 'layer-error'. */
  readonly scores: Readonly<Record<string, number>>;
  /** What the steps logged, in order. */
  readonly logs: readonly { readonly path: string; readonly record: Readonly<Record<string, unknown>> }[];
  readonly bitsPerWeight: number;
  /** Wall time of quantizing. */
  readonly seconds: number;
  /** What the model wrote, where the experiment asks for samples. */
  readonly texts?: readonly SampleText[];
}

/** How rows become a Markdown table: one line for each combination of `rows`, one column for each value of `columns`. */
export interface ExperimentTable {
  /** Fields that name a line. */
  readonly rows: readonly string[];
  /** Field whose values become columns; without it there is one column for each of `values`. */
  readonly columns?: string;
  /** Numeric fields in the cells: mean, and standard deviation over the rows that meet there (seeds). */
  readonly values: readonly string[];
}

/** What the paper, or the method's specification, says must come out. */
export interface ExperimentClaim {
  /** 'R1'. */
  readonly name: string;
  readonly statement: string;
  /** One verdict for each model or setting that the rows speak about. */
  check(rows: readonly ExperimentRow[]): readonly ClaimVerdict[];
}

export interface ClaimVerdict {
  /** What was looked at: 'stories15M, 2 bits, groups of 32'. */
  readonly subject: string;
  readonly holds: boolean;
  /** The numbers that it rests on. */
  readonly evidence: string;
}

interface ExperimentBase {
  /** 'table': the part after the slash of `lowbit reproduce decoupleq/table`. */
  readonly name: string;
  readonly title: string;
  /** What is varied, what is measured, and what to look for, in a few sentences. */
  readonly description: string;
  /** Where it comes from: 'arXiv 2404.12759, table 1'. */
  readonly source: string;
  readonly table: ExperimentTable;
  /** A Vega-Lite unit, layer or facet specification without `data`: rows are its data. */
  readonly figure: Readonly<Record<string, unknown>>;
  readonly claims?: readonly ExperimentClaim[];
}

/** A task that needs no file. */
export interface ExperimentTask {
  /** Was a sentence said before 1900? */
  readonly source: 'sotu-era';
  /** Tokens of an example at most. */
  readonly length?: number;
  /** Examples at most, to tune for and to judge by. */
  readonly limit?: { readonly train?: number; readonly dev?: number };
}

/** Arms that are quantized and judged by one protocol. */
interface ArmExperiment extends ExperimentBase {
  readonly arms: readonly ExperimentArm[];
  /** 'text' (perplexity, kl, top1-agreement, loss-gap) unless told otherwise; 'layer-error'; 'task' (task-accuracy, task-loss). */
  readonly evaluators?: readonly string[];
  /** Models by name; tiny and stories15M by default. */
  readonly models?: readonly string[];
  /** Seeds of the calibration text; 0, 1 and 2 by default. */
  readonly seeds?: readonly number[];
  readonly calibrationWindows?: number;
  readonly heldOutWindows?: number;
  /** What arms with a step for tasks are tuned for, and what the evaluator 'task' judges by. */
  readonly task?: ExperimentTask;
  /** Makes each text a row of its own, with the fields `prompt` and `text`; the report lists them, and tables, figures and claims leave them out. */
  readonly samples?: SampleRequest;
}

/** Rows are what the arms' scores and logs say. */
export interface RecipeExperiment extends ArmExperiment {
  /** Rows of one outcome; one row with its parameters and scores by default. The runner adds model, seed and arm. */
  rowsOf?(outcome: ArmOutcome): readonly ExperimentRow[];
}

/** What models of a study are judged on. What is chosen by one is to be judged on the other. */
export type StudyText = 'held-out' | 'calibration';

/** What a study is given: an arm on a model with a seed, quantized and judged, and the means to make and judge others. */
export interface StudyContext {
  readonly outcome: ArmOutcome;
  /** The model as it was given. Its weights may lie in files. */
  readonly dense: Model;
  /** What the arm's recipe made of it; the dense model itself where the recipe has no steps. */
  readonly quantized: Model;
  readonly backend: Backend;
  /** Randomness of the seed, the same for all arms. */
  readonly rng: Rng;
  readonly signal?: AbortSignal | undefined;
  progress(done: number, total: number): void;
  /** Applies another recipe to the dense model, with the arm's calibration text and seed. */
  quantize(recipe: readonly StepReference[]): Promise<Model>;
  /**
   * 'perplexity', 'kl', 'top1-agreement' and 'loss-gap' (nats a token above the dense model) of any model, on the held-out text unless told
   * otherwise. Of the arm's calibration text the first windows are read, 24 at most.
   */
  scoresOf(model: Model, text?: StudyText): Promise<Readonly<Record<string, number>>>;
  /**
   * ‖X(Ŵ−W)ᵀ‖² / ‖XWᵀ‖² of each Linear by path, X being what it reads in the dense model on such text.
   * @throws REFERENCE_MISMATCH for a model in another basis.
   */
  layerErrors(model: Model, text?: StudyText): Promise<Readonly<Record<string, number>>>;
}

/** Arms whose models are looked into: moved along lines, taken apart, put together anew. */
export interface StudyExperiment extends ArmExperiment {
  /** Rows of one arm on one model with one seed. The runner adds model, seed and arm. */
  study(context: StudyContext): Promise<readonly ExperimentRow[]>;
}

/** What a computation is told of a model. */
export interface ExperimentModel {
  /** 'tiny', or the name of a directory. */
  readonly name: string;
  readonly config: ModelConfig;
  /** Bytes of the stored tensors; null where there is a config.json alone. */
  readonly tensorBytes: number | null;
}

/** What an experiment without arms is given. */
export interface ExperimentContext {
  readonly backend: Backend;
  readonly rng: Rng;
  /** Where the experiment asks for models: those, or the ones that a person named. */
  readonly models?: readonly ExperimentModel[] | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly progress?: ((done: number, total: number) => void) | undefined;
}

/** Rows that are computed directly: counts, formulas, small problems solved exactly. */
export interface ComputedExperiment extends ExperimentBase {
  /** Models whose sizes it computes from; one that is not installed is left out. */
  readonly models?: readonly string[];
  compute(context: ExperimentContext): Promise<readonly ExperimentRow[]>;
}

export type Experiment = RecipeExperiment | StudyExperiment | ComputedExperiment;
