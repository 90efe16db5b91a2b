// A queue on a Redis server, and connections that say what is wrong with them.
import { LowbitError } from '@lowbit/core';
import { Queue, type RedisOptions } from 'bullmq';

/** Where a queue is. Its jobs are tasks: data is a `Task`, what is returned a `JobResult`, the id its key. */
export interface QueueAddress {
  readonly url: string;
  /** Of several on a server: who puts tasks in and who does them must be of one kind. Letters, digits and dashes. */
  readonly name: string;
}

/** A job that has none failed, or is not done. */
export interface JobResult {
  readonly result: unknown;
}

const CONNECT_MILLISECONDS = 5_000;
const RECONNECT_MILLISECONDS = 2_000;

/** A server that was checked, and how to connect to it again. */
export interface QueueServer {
  readonly queue: Queue;
  readonly connection: RedisOptions;
  /** As messages name it: without a password. */
  readonly label: string;
}

/**
 * Connects to a server once; later connections that are lost are made again for as long as it takes.
 * @throws QUEUE_URL for what is no address of a Redis server; QUEUE_UNREACHABLE when nothing that can be used answers there.
 */
export async function connectQueue({ url, name }: QueueAddress): Promise<QueueServer> {
  const label = labelOf(url);
  let isConnected = false;
  const connection: RedisOptions = {
    url,
    connectTimeout: CONNECT_MILLISECONDS,
    retryStrategy: (times) => (isConnected ? Math.min(100 * times, RECONNECT_MILLISECONDS) : null),
  };
  // Workers wait for the server as long as it takes; who looks at the queue now and then looks again.
  const queue = new Queue(name, { connection: { ...connection, maxRetriesPerRequest: 1 } });
  // What goes wrong is known by the commands that fail.
  queue.on('error', () => undefined);
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer')), 2 * CONNECT_MILLISECONDS);
  });
  try {
    await Promise.race([queue.waitUntilReady(), silence]);
    isConnected = true;
    return { queue, connection, label };
  } catch (error) {
    await queue.disconnect().catch(() => undefined);
    const reason = error instanceof Error ? error.message : String(error);
    throw new LowbitError('QUEUE_UNREACHABLE', `${label}: ${reason}; start a Redis server there, or give the address of one that runs`, {
      cause: error,
    });
  } finally {
    clearTimeout(timer);
  }
}

function labelOf(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (!parsed || !['redis:', 'rediss:'].includes(parsed.protocol) || parsed.hostname === '') {
    throw new LowbitError('QUEUE_URL', `'${url}' is no address of a Redis server; it looks like redis://host:6379, or rediss:// with TLS`);
  }
  if (parsed.password !== '') parsed.password = '***';
  return parsed.href;
}
