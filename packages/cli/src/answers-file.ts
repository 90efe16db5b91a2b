// The file of lowbit eval --answers: what a model wrote for each question, one JSON object a line.
import { appendFileSync } from 'node:fs';
import { stat, writeFile } from 'node:fs/promises';
import { LowbitError } from '@lowbit/core';

export interface AnswersFile {
  /** Makes the file, or empties it. @throws OUTPUT_FILE when it cannot be written. */
  open(): Promise<void>;
  write(answer: object): void;
}

/** Touches nothing yet. @throws OUTPUT_EXISTS when a file holds something and `force` is not set. */
export async function answersFile(path: string, force: boolean): Promise<AnswersFile> {
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  if (size > 0 && !force) {
    throw new LowbitError('OUTPUT_EXISTS', `--answers: ${path} is there already; name another file, or overwrite it with --force`);
  }
  return {
    async open() {
      await writeFile(path, '').catch((cause: Error) => {
        throw new LowbitError('OUTPUT_FILE', `--answers: ${path} cannot be written (${cause.message}); name another file`, { cause });
      });
    },
    write: (answer) => appendFileSync(path, `${JSON.stringify(answer)}\n`),
  };
}
