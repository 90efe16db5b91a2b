// Requests to the hub: the token goes to the hub alone, and what may pass is asked again, a few times and more and more slowly.
import { setTimeout as sleep } from 'node:timers/promises';
import { LowbitError, throwIfAborted } from '@lowbit/core';
import { isPassing, networkError, type Question, statusError } from './errors.js';

/** How requests are made. */
export interface RequestOptions {
  readonly signal?: AbortSignal | undefined;
  /** Waits before something is tried again; the clock's by default. Rejects when the signal is aborted. */
  readonly wait?: ((milliseconds: number, signal: AbortSignal | undefined) => Promise<void>) | undefined;
}

/** How often something is asked at most. */
export const ATTEMPTS = 5;
const FIRST_PAUSE = 1000;
/** Who is asked to wait longer is told so. */
const LONGEST_PAUSE = 120_000;

/** Before the try after `attempt` tries: 1, 2, 4, 8 seconds, or what the server asks for. @throws ABORTED */
export async function pause(attempt: number, { signal, wait = clock }: RequestOptions, asked = 0): Promise<void> {
  await wait(Math.max(asked, FIRST_PAUSE * 2 ** (attempt - 1)), signal).catch((cause: unknown) => {
    throwIfAborted(signal);
    throw cause;
  });
  throwIfAborted(signal);
}

async function clock(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(milliseconds, undefined, { signal });
}

/**
 * A `fetch` that answers with a success, or with 416, or throws: what 429, 408, 5xx and broken connections end is tried again. `isWhole`
 * answers are read before they are handed out, so that one that breaks off is tried again too.
 * @throws HUB_GATED, HUB_ACCESS, HUB_MISSING, HUB_BUSY, HUB_RESPONSE, HUB_NETWORK, ABORTED
 */
export function hubFetch(question: Question, options: RequestOptions, isWhole: boolean, path?: string): typeof fetch {
  const { settings } = question;
  const { origin } = new URL(settings.endpoint);
  return async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const headers = new Headers(init?.headers);
    // Where a redirect leads elsewhere, fetch drops it.
    if (settings.token !== undefined && url.origin === origin) headers.set('authorization', `Bearer ${settings.token}`);
    for (let attempt = 1; ; attempt++) {
      throwIfAborted(options.signal);
      let response: Response;
      try {
        response = await fetch(url, { ...init, headers, signal: options.signal ?? null });
        if (isWhole && response.ok) response = new Response(await response.text(), response);
      } catch (cause) {
        throwIfAborted(options.signal);
        if (attempt >= ATTEMPTS) throw networkError(question, cause);
        await pause(attempt, options);
        continue;
      }
      if (response.ok || response.status === 416) return response;
      await response.body?.cancel();
      const asked = retryAfter(response.headers.get('retry-after'));
      if (!isPassing(response.status) || attempt >= ATTEMPTS || asked > LONGEST_PAUSE) {
        throw statusError(question, response.status, response.headers.get('x-error-code'), path);
      }
      await pause(attempt, options, asked);
    }
  };
}

/** Milliseconds, from seconds or a date. */
function retryAfter(header: string | null): number {
  if (header === null) return 0;
  const seconds = Number(header);
  const milliseconds = Number.isNaN(seconds) ? Date.parse(header) - Date.now() : seconds * 1000;
  return Number.isNaN(milliseconds) ? 0 : Math.max(0, milliseconds);
}

/** What the library that speaks the hub's API throws for an answer that is none of the hub's: a page of a proxy, say. */
export function responseError({ reference, settings }: Question, cause: unknown): unknown {
  if (cause instanceof LowbitError) return cause;
  return new LowbitError(
    'HUB_RESPONSE',
    `${reference.kind} ${reference.repository}: ${settings.endpoint} does not answer as a hub does (${(cause as Error).message}); check HF_ENDPOINT, and that no proxy answers in its place`,
    { cause },
  );
}
