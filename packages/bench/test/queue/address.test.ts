// Addresses of queues: what is none, and what does not answer.
import { createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import { runQueued } from '../../src/queue/coordinator.js';
import { serveQueue } from '../../src/queue/worker.js';
import { freePort } from '../../src/speed/redis-server.js';
import { recordingHooks, tasksOf } from './tasks.js';

const name = 'lowbit-test';

describe('an address without a queue', () => {
  const run = (url: string) => runQueued(tasksOf([]), { url, name }, recordingHooks());
  const serve = (url: string) => serveQueue(async () => undefined, { url, name, lostAfter: 2, signal: new AbortController().signal });

  it.each(['localhost', 'http://localhost:6379', 'redis://', ''])('is no address: %j', async (url) => {
    await expect(run(url)).rejects.toMatchObject({ code: 'QUEUE_URL' });
    await expect(serve(url)).rejects.toMatchObject({ code: 'QUEUE_URL' });
  });

  it('says where nothing answers, without the password', async () => {
    const port = await freePort();
    const url = `redis://someone:secret@127.0.0.1:${port}`;
    for (const connect of [run, serve]) {
      const error = await connect(url).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(error).toMatchObject({ code: 'QUEUE_UNREACHABLE', message: expect.stringContaining(`redis://someone:***@127.0.0.1:${port}`) });
      expect(String(error)).not.toContain('secret');
    }
  });

  it('says so when what answers is no Redis server', async () => {
    const server = createServer((socket) => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    const port = await freePort();
    server.listen(port, '127.0.0.1');
    await expect(run(`redis://127.0.0.1:${port}`)).rejects.toMatchObject({ code: 'QUEUE_UNREACHABLE' });
    server.close();
  });
});
