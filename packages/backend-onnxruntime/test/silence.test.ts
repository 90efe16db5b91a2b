// The engine prints nothing by itself, whatever goes wrong: errors are thrown.
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

it('prints nothing where a run fails or a provider is missing', async () => {
  const script = fileURLToPath(new URL('failing.ts', import.meta.url));
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--import', tsx, script]);
  expect(stdout).toMatch(/^ONNX_RUN,BACKEND_UNAVAILABLE,(BACKEND_UNAVAILABLE|none)$/);
  expect(stderr).toBe('');
});
