// The compiled programs that are kept, by structure.
import type { Structure } from '@lowbit/core';
import type { Program } from './program.js';
import { workingBytes } from './working-bytes.js';

export interface ProgramLimits {
  /** Programs kept. */
  readonly programs: number;
  /** Working memory of all kept programs together, in bytes, beyond the few that were used last. */
  readonly bytes: number;
}

/** Programs that stay whatever memory they hold: what a loop of a few graphs alternates between. */
const ALWAYS_KEPT = 8;

/** A compiled program that is released once it has left the cache and no evaluation uses it any more. */
export class CachedProgram {
  readonly program: Promise<Program>;
  readonly bytes: number;
  /** Evaluations under way that use it. */
  users = 0;
  #isDropped = false;

  constructor(program: Promise<Program>, bytes: number) {
    this.program = program;
    this.bytes = bytes;
  }

  async giveBack(): Promise<void> {
    this.users--;
    await this.#releaseIfUnused();
  }

  /** It has left the cache. */
  async drop(): Promise<void> {
    this.#isDropped = true;
    await this.#releaseIfUnused();
  }

  async #releaseIfUnused(): Promise<void> {
    if (!this.#isDropped || this.users > 0) return;
    // One that did not compile has nothing to release; its evaluation has thrown the reason.
    const loaded = await this.program.catch(() => undefined);
    await loaded?.release();
  }
}

/**
 * Keeps programs by structure and drops the least recently used ones past the limits: each keeps an arena as large as its
 * intermediate values, and a run goes through phases (generating, tracing, judging) whose programs are not needed again.
 */
export class ProgramCache {
  readonly #compile: (structure: Structure) => Promise<Program>;
  readonly #limits: ProgramLimits;
  readonly #kept = new Map<string, CachedProgram>();
  /** Programs compiled so far. */
  compilations = 0;

  constructor(compile: (structure: Structure) => Promise<Program>, limits: ProgramLimits) {
    this.#compile = compile;
    this.#limits = limits;
  }

  /** The program of a structure, compiled at most once while it is kept; safe from being released until `giveBack`. */
  acquire(structure: Structure): CachedProgram {
    const { key } = structure;
    const cached = this.#kept.get(key) ?? this.#make(structure);
    cached.users++;
    this.#kept.delete(key);
    this.#kept.set(key, cached);
    this.#trim();
    return cached;
  }

  async clear(): Promise<void> {
    const dropped = [...this.#kept.values()];
    this.#kept.clear();
    for (const cached of dropped) await cached.drop();
  }

  #make(structure: Structure): CachedProgram {
    this.compilations++;
    const made = new CachedProgram(this.#compile(structure), workingBytes(structure));
    made.program.catch(() => this.#kept.get(structure.key) === made && this.#kept.delete(structure.key));
    return made;
  }

  #trim(): void {
    let bytes = 0;
    for (const { bytes: held } of this.#kept.values()) bytes += held;
    for (const [key, oldest] of this.#kept) {
      const isFull = this.#kept.size > this.#limits.programs || (bytes > this.#limits.bytes && this.#kept.size > ALWAYS_KEPT);
      if (!isFull) return;
      this.#kept.delete(key);
      bytes -= oldest.bytes;
      void oldest.drop();
    }
  }
}
