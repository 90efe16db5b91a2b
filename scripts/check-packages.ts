// Packs every public package as it would be published and checks the tarball: exports (publint), types (attw), contents.
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const CONCURRENCY = 2;

interface Manifest {
  readonly name: string;
  readonly private?: boolean;
}

function publicPackages(): string[] {
  const folders = ['packages', 'plugins'].flatMap((parent) => readdirSync(parent).map((name) => join(parent, name)));
  return folders.filter((folder) => !readManifest(folder).private);
}

function readManifest(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;
}

/** pnpm replaces `workspace:` ranges and applies publishConfig, which npm would not. */
async function pack(folder: string, destination: string): Promise<string> {
  const pnpm = process.env.npm_execpath;
  const [program, ...prefix] = pnpm?.endsWith('.cjs') ? [process.execPath, pnpm] : ['npx', '-y', 'pnpm@10'];
  const { stdout } = await execute(program, [...prefix, 'pack', '--json', '--pack-destination', destination], { cwd: folder });
  return (JSON.parse(stdout.slice(stdout.indexOf('{'))) as { filename: string }).filename;
}

/** What a published package must hold, from the list of its files. */
async function missingFiles(tarball: string): Promise<string[]> {
  const { stdout } = await execute('tar', ['-tzf', tarball]);
  const files = new Set(stdout.trim().split('\n'));
  return ['README.md', 'LICENSE', 'package.json', 'dist/index.js', 'dist/index.d.ts'].filter((file) => !files.has(`package/${file}`));
}

async function check(folder: string, destination: string): Promise<string[]> {
  const tarball = await pack(folder, destination);
  const problems = (await missingFiles(tarball)).map((file) => `${file} is not in the tarball`);
  const tools: readonly (readonly string[])[] = [
    ['publint', 'run', tarball, '--strict'],
    ['attw', tarball, '--profile', 'esm-only', '--format', 'ascii', '--no-color', '--no-emoji'],
  ];
  for (const [program, ...args] of tools) {
    await execute(program, args).catch((error: { stdout?: string; stderr?: string; message: string }) => {
      problems.push(`${program}: ${error.stdout || error.stderr || error.message}`);
    });
  }
  return problems;
}

const destination = mkdtempSync(join(tmpdir(), 'lowbit-pack-'));
const queue = publicPackages();
let failures = 0;
async function work(): Promise<void> {
  for (let folder = queue.shift(); folder !== undefined; folder = queue.shift()) {
    const problems = await check(folder, destination);
    console.log(`${problems.length === 0 ? 'ok    ' : 'FAILED'}  ${readManifest(folder).name}`);
    for (const problem of problems) console.log(problem.replace(/^/gm, '        '));
    failures += problems.length;
  }
}
try {
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
} finally {
  rmSync(destination, { recursive: true, force: true });
}
process.exit(failures === 0 ? 0 : 1);
