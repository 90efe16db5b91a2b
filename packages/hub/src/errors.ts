// What the hub's refusals mean to a person.
import { LowbitError } from '@lowbit/core';
import type { HubReference } from './reference.js';
import type { HubSettings } from './settings.js';

/** What is asked, and of whom. */
export interface Question {
  readonly reference: HubReference;
  readonly settings: HubSettings;
}

/** The page of a repository, where a licence is accepted. */
function pageOf({ reference: { kind, repository }, settings: { endpoint } }: Question): string {
  return `${endpoint}/${kind === 'dataset' ? 'datasets/' : ''}${repository}`;
}

/** An answer that is no success. Nothing of what the server wrote is repeated. */
export function statusError(question: Question, status: number, code: string | null, path?: string): LowbitError {
  const { reference, settings } = question;
  const { kind, repository, revision } = reference;
  const what = `${kind} ${repository}`;
  if (code === 'GatedRepo' || status === 403) {
    const remedy =
      settings.token === undefined
        ? 'log in as the account that did with: hf auth login, or set HF_TOKEN to a token of it'
        : 'check that the token, of HF_TOKEN or hf auth login, is of the account that did';
    return new LowbitError('HUB_GATED', `${what}: is gated; accept its licence at ${pageOf(question)}, and ${remedy}`);
  }
  if (status === 401) {
    // The hub does not tell those who may not see a repository from a repository that is not there.
    const remedy =
      settings.token === undefined
        ? `check the name; if it is private or gated, see ${pageOf(question)}, and log in with: hf auth login, or set HF_TOKEN`
        : `check the name, and the token, of HF_TOKEN or hf auth login, which was refused or may not read it: ${pageOf(question)}`;
    return new LowbitError('HUB_ACCESS', `${what}: is not there, or not for everyone; ${remedy}`);
  }
  if (status === 404) {
    if (code === 'RevisionNotFound') return missing(`${what}: has no revision '${revision}'; check the branch, tag or commit`);
    if (code === 'EntryNotFound')
      return missing(`${what}: has no ${path ?? reference.folder} at revision '${revision}'; see ${pageOf(question)}/tree/${revision}`);
    const other = kind === 'model' ? 'dataset' : 'model';
    return missing(
      `${settings.endpoint} has no ${what}; check owner and name (if it is a ${other}, name it where a ${other} is asked for)`,
    );
  }
  if (isPassing(status)) {
    const remedy = status === 429 ? 'wait some minutes, or log in with: hf auth login (known accounts may ask more)' : 'try again later';
    return new LowbitError('HUB_BUSY', `${what}: ${settings.endpoint} answered ${status} again and again; ${remedy}`);
  }
  return new LowbitError('HUB_RESPONSE', `${what}: ${settings.endpoint} answered ${status}; check HF_ENDPOINT, or try again later`);
}

function missing(message: string): LowbitError {
  return new LowbitError('HUB_MISSING', message);
}

/** Whether an answer may be another one when the question is asked again. */
export function isPassing(status: number): boolean {
  return status === 408 || status === 429 || status >= 500;
}

/** No answer at all. */
export function networkError({ reference, settings }: Question, cause: unknown): LowbitError {
  return new LowbitError(
    'HUB_NETWORK',
    `${reference.kind} ${reference.repository}: ${settings.endpoint} cannot be reached (${reasonOf(cause)}); check the network and HF_ENDPOINT, or use what is in the cache with HF_HUB_OFFLINE=1`,
    { cause },
  );
}

/** fetch says 'fetch failed' and keeps the reason in the cause. */
function reasonOf(cause: unknown): string {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  const { code } = inner as NodeJS.ErrnoException;
  return code ?? (inner instanceof Error ? inner.message : String(inner));
}

/** What a person runs to have in the cache what is not there. */
export function offlineError({ reference, settings }: Question, what: string): LowbitError {
  const { kind, repository, revision, folder } = reference;
  const words = [
    ...['hf download', repository],
    ...(kind === 'dataset' ? ['--repo-type dataset'] : []),
    ...(revision === 'main' ? [] : [`--revision ${revision}`]),
    ...(folder === '' ? [] : [`--include '${folder}/*'`]),
  ];
  return new LowbitError(
    'HUB_OFFLINE',
    `${kind} ${repository}: ${what} in ${settings.cache}, and nothing is fetched offline; fetch it with: ${words.join(' ')}, or run this once without --offline and HF_HUB_OFFLINE`,
  );
}

/** What a file system says while the cache is written to. */
export function cacheError(cause: unknown, path: string): unknown {
  const { code, message } = cause as NodeJS.ErrnoException;
  if (cause instanceof LowbitError || code === undefined) return cause;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new LowbitError('DISK_FULL', `${path}: the disk is full; free some space, or have the cache elsewhere with HF_HUB_CACHE`, {
      cause,
    });
  }
  return new LowbitError('HUB_CACHE', `${path}: cannot be written (${message}); have the cache elsewhere with HF_HUB_CACHE`, { cause });
}
