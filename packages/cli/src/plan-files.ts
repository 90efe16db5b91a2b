// Digests of the files that a benchmark reads, so that rows of a file that has changed since are not taken for those of the new one.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import type { PlanDraft } from '@lowbit/bench';

/** sha256 by path, of texts and examples. A file that cannot be read has none: whoever reads it says so. */
export async function fileDigests({ calibration, heldOut, task }: PlanDraft): Promise<PlanDraft['files']> {
  const texts = [calibration.source, heldOut.source].flatMap((source) => (source?.kind === 'file' ? [source.path] : []));
  const examples = [task?.source, task?.dev].filter((path) => typeof path === 'string');
  const digests: Record<string, string> = {};
  for (const path of new Set([...texts, ...examples])) {
    const hash = createHash('sha256');
    const isRead = await pipeline(createReadStream(path), hash).then(
      () => true,
      () => false,
    );
    if (isRead) digests[path] = hash.digest('hex');
  }
  return Object.keys(digests).length === 0 ? undefined : digests;
}
