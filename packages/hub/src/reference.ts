// What a person writes to name a model or a dataset of the hub: 'hf:owner/name', with a revision, and for datasets a folder.
import { LowbitError } from '@lowbit/core';

const PREFIX = 'hf:';

/** A repository of the hub holds one of these. */
export type HubKind = 'model' | 'dataset';

export interface HubReference {
  readonly kind: HubKind;
  /** 'owner/name' */
  readonly repository: string;
  /** A branch, a tag or a commit; 'main' where none was named. */
  readonly revision: string;
  /** Of a dataset, a folder within: 'data/en'. Empty for the whole. */
  readonly folder: string;
}

/** Whether a text names something on the hub: it begins with 'hf:'. */
export function isHubReference(text: string): boolean {
  return text.startsWith(PREFIX);
}

/** What a model is called for short: 'name' of 'hf:owner/name@revision'. */
export function hubModelName(text: string): string {
  return parseHubReference(text, 'model').repository.split('/')[1];
}

const PART = /^(?!\.)(?!.*(\.\.|--))[\w.-]+(?<![.-])$/;
/** What git allows in names of branches and tags, as far as it can be told from a path. */
const REVISION = /^(?!.*(\.\.|\/\/))[\w.+=][\w.+=/-]*(?<![./])$/;
/** Revisions that the hub itself makes have slashes in them: 'refs/pr/1', 'refs/convert/parquet'. */
const OWN_REVISION = /^@(refs\/(?:pr|convert)\/[^/]+)(?:\/(.*))?$/;

/**
 * Reads 'hf:owner/name[@revision]', and for datasets 'hf:owner/name[@revision][/folder]'. A slash in a revision is written %2F, but in
 * 'refs/pr/1' and 'refs/convert/parquet'.
 * @throws HUB_REFERENCE
 */
export function parseHubReference(text: string, kind: HubKind): HubReference {
  const [, owner, rest] = /^hf:([^/@]+)\/(.+)$/.exec(text) ?? [];
  const [, name, tail] = /^([^/@]+)(.*)$/.exec(rest ?? '') ?? [];
  const [, own, ownFolder] = OWN_REVISION.exec(tail ?? '') ?? [];
  const [, given, givenFolder] = /^(?:@([^/]+))?(?:\/(.*))?$/.exec(tail ?? '') ?? [];
  const isTailRead = own !== undefined || given !== undefined || givenFolder !== undefined || tail === '';
  const revision = own ?? decoded(given) ?? 'main';
  const folder = ((own === undefined ? givenFolder : ownFolder) ?? '').replace(/\/$/, '');
  const isFolder = folder === '' || (kind === 'dataset' && folder.split('/').every(isPathPart));
  if (!isTailRead || ![owner, name].every((part) => part !== undefined && PART.test(part)) || !REVISION.test(revision) || !isFolder) {
    const form =
      kind === 'model' ? 'hf:owner/name or hf:owner/name@revision' : 'hf:owner/name, hf:owner/name/folder or hf:owner/name@revision/folder';
    throw new LowbitError('HUB_REFERENCE', `'${text}' names no ${kind} of the hub; write ${form}`);
  }
  return { kind, repository: `${owner}/${name}`, revision, folder };
}

/** The text that `parseHubReference` reads. */
export function formatHubReference({ repository, revision, folder }: HubReference): string {
  const isOwn = OWN_REVISION.test(`@${revision}`);
  const at = revision === 'main' ? '' : `@${isOwn ? revision : encodeURIComponent(revision)}`;
  return `${PREFIX}${repository}${at}${folder === '' ? '' : `/${folder}`}`;
}

function decoded(revision: string | undefined): string | undefined {
  try {
    return revision === undefined ? undefined : decodeURIComponent(revision);
  } catch {
    return ''; // no revision
  }
}

/** Whether a name may be a part of a path that is written to: none that leads elsewhere. */
export function isPathPart(part: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: names of files come from a server
  return part !== '' && part !== '.' && part !== '..' && !/[\\:\u0000-\u001f]/.test(part);
}
