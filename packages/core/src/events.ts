// What a run tells about itself. Progress bar, log file and benchmark read the same events.

export type RunEvent =
  /** `linears`: how many Linears are to be quantized one by one, all steps together. */
  | { readonly type: 'run-start'; readonly steps: number; readonly blocks: number; readonly linears: number }
  | { readonly type: 'step-start'; readonly step: number; readonly method: string; readonly targets: number }
  | {
      readonly type: 'progress';
      readonly step: number;
      readonly stage: string;
      readonly path: string;
      readonly done: number;
      readonly total: number;
    }
  | {
      /** A stage has done with a Linear: `quantizeLinear`, then `refineBlock` with those of the block, then `finetune` with all. */
      readonly type: 'linear-done';
      readonly step: number;
      readonly path: string;
      /** ‖X(Ŵ−W)ᵀ‖² / ‖XWᵀ‖² on calibration rows; undefined when `quantizeLinear` folds no Gram matrix, or when there is nothing to compare with. */
      readonly error: number | undefined;
      /** The same of rounding to nearest in the same representation; undefined where nobody can tell. */
      readonly nearestError: number | undefined;
      /** Calibration tokens that reached the Linear: rows of its input that are not 0 throughout. Undefined when `quantizeLinear` folds nothing, and of later stages. */
      readonly tokens: number | undefined;
      readonly bitsPerWeight: number;
      /** Of a stage that works on several at once, an equal part. */
      readonly milliseconds: number;
    }
  | {
      readonly type: 'block-done';
      readonly step: number;
      readonly path: string;
      readonly done: number;
      readonly total: number;
      readonly milliseconds: number;
    }
  | { readonly type: 'log'; readonly step: number; readonly path: string; readonly record: Readonly<Record<string, unknown>> }
  | { readonly type: 'warning'; readonly step: number; readonly path: string; readonly code: string; readonly message: string }
  | { readonly type: 'step-done'; readonly step: number; readonly method: string; readonly milliseconds: number }
  | { readonly type: 'run-done'; readonly milliseconds: number };
