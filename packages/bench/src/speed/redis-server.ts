// A Redis server of one's own, for tests and measurements: on a free port, in a folder of its own, keeping nothing, gone when its user is.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtemp, readFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface RedisServer {
  readonly url: string;
  stop(): Promise<void>;
}

/** What is missing to run one; undefined where nothing is. */
export function missingForRedis(): string | undefined {
  try {
    execFileSync('redis-server', ['--version'], { stdio: 'ignore' });
  } catch {
    return 'redis-server is not on PATH';
  }
  return undefined;
}

/** A machine that is busy with other work takes its time. */
const START_MILLISECONDS = 120_000;

/** On a port that was asked for, or one that is free. */
export async function startRedis(wanted?: number): Promise<RedisServer> {
  for (;;) {
    const port = wanted ?? (await freePort());
    const server = await startOn(port);
    if (server) return server;
    if (wanted !== undefined) throw new Error(`port ${port} is not free`);
  }
}

/** Undefined where something else has taken the port meanwhile. */
async function startOn(port: number): Promise<RedisServer | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'lowbit-redis-'));
  const log = join(folder, 'log');
  const words = ['--bind', '127.0.0.1', '--port', String(port), '--save', '', '--appendonly', 'no', '--dir', folder, '--logfile', log];
  // The shell reads until this process is gone, however that comes about, and takes server and folder with it.
  const script = 'redis-server "$@" >/dev/null 2>&1 & read line; kill -9 $!; wait; rm -rf "$0"';
  const shell = spawn('sh', ['-c', script, folder, ...words], { stdio: ['pipe', 'ignore', 'ignore'] });
  const stopped = new Promise<void>((resolve) => shell.once('close', () => resolve()));
  const stop = async (): Promise<void> => {
    shell.stdin?.end();
    await stopped;
  };
  for (const start = performance.now(); performance.now() - start < START_MILLISECONDS; await sleep(50)) {
    const said = await readFile(log, 'utf8').catch(() => '');
    if (said.includes('in use')) {
      await stop();
      return undefined;
    }
    if (await answers(port)) return { url: `redis://127.0.0.1:${port}`, stop };
  }
  await stop();
  throw new Error('redis-server does not answer');
}

/** A port that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => (typeof address === 'object' && address ? resolve(address.port) : reject(new Error('no port'))));
    });
  });
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('error', () => resolve(false));
    socket.once('connect', () => socket.write('PING\r\n'));
    socket.once('data', (data) => {
      socket.destroy();
      resolve(data.toString().startsWith('+PONG'));
    });
  });
}
