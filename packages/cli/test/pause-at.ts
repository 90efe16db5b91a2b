// Loaded into a process before the command: where it is about to name or remove the file that PAUSE_AT describes it says so, and goes no further.
import promises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

const place = new RegExp(process.env['PAUSE_AT'] ?? '^$');
const { rename, rm } = promises;

async function pauseAt(what: string): Promise<void> {
  if (!place.test(what)) return;
  process.stderr.write('PAUSED\n');
  await new Promise(() => setInterval(() => undefined, 2 ** 30));
}

promises.rename = async (from, to) => {
  await pauseAt(`name ${String(to)}`);
  await rename(from, to);
};
promises.rm = async (path, options) => {
  await pauseAt(`remove ${String(path)}`);
  await rm(path, options);
};
syncBuiltinESMExports();
