// A clock that can leave out what is not to be measured.

/** Measures time but for what is left out. */
export class Stopwatch {
  readonly #started = performance.now();
  #leftOut = 0;

  async leaveOut<T>(work: () => Promise<T>): Promise<T> {
    const started = performance.now();
    try {
      return await work();
    } finally {
      this.#leftOut += performance.now() - started;
    }
  }

  seconds(): number {
    return (performance.now() - this.#started - this.#leftOut) / 1000;
  }
}
