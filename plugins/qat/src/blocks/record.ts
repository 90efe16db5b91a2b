// What the log says of a block that is not trained.

/**
 * Of a block that is not trained.
 * @param given loss of what the step was given; undefined where that cannot be kept. @param start that of the start of training.
 */
export function untrainedRecord(given: number | undefined, start: number): Readonly<Record<string, unknown>> {
  const losses = { lossGiven: given, lossBefore: start, lossAfter: given ?? start };
  return { steps: 0, tokens: 0, ...losses, keptRound: given === undefined ? 0 : 'given' };
}
