// A Redis server of one's own, for tests and measurements: on a free port, in a folder of its own, keeping nothing, gone when its user is.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtemp } from 'node:fs/promises';
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

/** On a port that was asked for, or one that is free. */
export async function startRedis(wanted?: number): Promise<RedisServer> {
  const folder = await mkdtemp(join(tmpdir(), 'lowbit-redis-'));
  const port = wanted ?? (await freePort());
  const words = ['--bind', '127.0.0.1', '--port', String(port), '--save', '', '--appendonly', 'no', '--dir', folder];
  // The shell reads until this process is gone, however that comes about, and takes server and folder with it.
  const script = 'redis-server "$@" >/dev/null 2>&1 & read line; kill -9 $!; wait; rm -rf "$0"';
  const shell = spawn('sh', ['-c', script, folder, ...words], { stdio: ['pipe', 'ignore', 'ignore'] });
  const stopped = new Promise<void>((resolve) => shell.once('close', () => resolve()));
  for (let tries = 0; !(await answers(port)); tries++) {
    if (tries > 200) throw new Error('redis-server does not answer');
    await sleep(50);
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    async stop() {
      shell.stdin?.end();
      await stopped;
    },
  };
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
