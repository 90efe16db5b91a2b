// Hands events to the caller's listener without letting its faults into the run.
import type { RunEvent } from '@lowbit/core';

export interface Emitter {
  emit(event: RunEvent): void;
  /** What was told about the weights since the last call: a stored block, or model, has it beside it, and a resumed run tells it again. */
  told(): RunEvent[];
  /** Warnings emitted so far. */
  readonly warnings: readonly Extract<RunEvent, { type: 'warning' }>[];
  /** What the listener threw first, if it threw. */
  readonly failure: unknown;
}

/** A listener that throws, or returns a promise that rejects, is still told of later events; the run goes on as without it. */
export function createEmitter(listener: ((event: RunEvent) => void) | undefined): Emitter {
  const warnings: Extract<RunEvent, { type: 'warning' }>[] = [];
  let told: RunEvent[] = [];
  let failure: unknown;
  const record = (error: unknown): void => {
    failure ??= error;
  };
  return {
    warnings,
    get failure() {
      return failure;
    },
    told() {
      const since = told;
      told = [];
      return since;
    },
    emit(event) {
      if (event.type === 'warning') warnings.push(event);
      if (event.type === 'warning' || event.type === 'log' || event.type === 'linear-done') told.push(event);
      try {
        const returned: unknown = listener?.(event);
        if (returned instanceof Promise) returned.catch(record);
      } catch (error) {
        record(error);
      }
    },
  };
}
