// Run as a process: a worker on the queue whose address and name it is given, until SIGTERM.
import { openTaskProcess } from '../../src/queue/process.js';
import { serveQueue } from '../../src/queue/worker.js';
import { type TestWork, taskModule } from './tasks.js';

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
const tasks = openTaskProcess<TestWork, string>(taskModule);
const [url, name, lostAfter] = process.argv.slice(2);
await serveQueue<TestWork, string>((task, signal) => tasks.run(task, signal), {
  url,
  name,
  lostAfter: Number(lostAfter),
  signal: stop.signal,
  onReady: () => process.send?.('ready'),
});
tasks.close();
process.disconnect();
