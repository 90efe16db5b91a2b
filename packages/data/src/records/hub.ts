// Datasets in the cache that Hugging Face's own programs download to.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { LowbitError } from '@lowbit/core';

const PREFIX = 'hf:';

/** Whether it names a dataset of the hub: 'hf:allenai/ai2_arc', or a folder within: 'hf:allenai/ai2_arc/ARC-Easy'. */
export function isHubReference(reference: string): boolean {
  return reference.startsWith(PREFIX);
}

/**
 * Where the files of a dataset lie that `hf download` has fetched: the revision that 'main' was then. Nothing is fetched.
 * @throws TASK_MISSING with the command that fetches it.
 */
export async function hubDirectory(reference: string): Promise<string> {
  const [owner, name, ...folder] = reference.slice(PREFIX.length).split('/');
  if (!owner || !name || [owner, name, ...folder].some((part) => part === '' || part === '.' || part === '..')) {
    throw new LowbitError('TASK_MISSING', `'${reference}' is no dataset of the hub; write hf:owner/name, or hf:owner/name/folder`);
  }
  const cached = join(cacheDirectory(), `datasets--${owner}--${name}`);
  const revision = await readFile(join(cached, 'refs', 'main'), 'utf8').catch(() => undefined);
  const directory = join(cached, 'snapshots', revision?.trim() ?? '', ...folder);
  if (revision !== undefined && existsSync(directory)) return directory;
  const command = `hf download ${owner}/${name} --repo-type dataset`;
  throw new LowbitError('TASK_MISSING', `${reference}: is not in ${cacheDirectory()}; fetch it with: ${command}`);
}

/** As huggingface_hub finds it. */
function cacheDirectory(): string {
  const { HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME } = process.env;
  return HF_HUB_CACHE ?? join(HF_HOME ?? join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface'), 'hub');
}
