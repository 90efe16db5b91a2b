// Where the hub is, where its files are kept, and whether it may be asked at all: from the variables that Hugging Face's programs read.
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { LowbitError } from '@lowbit/core';

export interface HubSettings {
  /** The directory of the cache. */
  readonly cache: string;
  /** Without a slash at its end. */
  readonly endpoint: string;
  /** Sent to the endpoint alone, and never printed. */
  readonly token?: string | undefined;
  /** Nothing is asked for or fetched: what is not in the cache is an error. */
  readonly isOffline: boolean;
}

const TRUE = ['1', 'on', 'yes', 'true'];

/**
 * HF_HUB_CACHE, HF_HOME and XDG_CACHE_HOME say where the cache is, HF_ENDPOINT where the hub is, HF_TOKEN who asks, or else the file that
 * `hf auth login` writes, at HF_TOKEN_PATH or in HF_HOME; HF_HUB_OFFLINE=1 that nobody does. An empty variable is none.
 * @throws HUB_SETTINGS for an endpoint that is no URL, and for a file of a token that is there and cannot be read.
 */
export function hubSettings(environment: NodeJS.ProcessEnv = process.env): HubSettings {
  const read = (name: string): string | undefined => environment[name]?.trim() || undefined;
  const home = read('HF_HOME') ?? join(read('XDG_CACHE_HOME') ?? join(homedir(), '.cache'), 'huggingface');
  return {
    cache: read('HF_HUB_CACHE') ?? join(home, 'hub'),
    endpoint: endpointOf(read('HF_ENDPOINT') ?? 'https://huggingface.co'),
    token: read('HF_TOKEN') ?? tokenIn(read('HF_TOKEN_PATH') ?? join(home, 'token')),
    isOffline: TRUE.includes(read('HF_HUB_OFFLINE')?.toLowerCase() ?? ''),
  };
}

/** Undefined for those who never logged in. */
function tokenIn(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim() || undefined;
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new LowbitError(
      'HUB_SETTINGS',
      `${path}: the token cannot be read (${message}); set HF_TOKEN, or log in again with: hf auth login`,
      {
        cause,
      },
    );
  }
}

function endpointOf(text: string): string {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new LowbitError('HUB_SETTINGS', `HF_ENDPOINT: '${text}' is no address of a hub; write it as in https://huggingface.co`);
  }
  return text.replace(/\/+$/, '');
}
