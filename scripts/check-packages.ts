// Packs every public package as it would be published and checks the tarballs: exports (publint), types (attw), contents, and a publish of
// each that is none; then installs them in a folder of their own, runs the command there, and makes and uses a method there, as a stranger would.
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { publishProblems } from './publishing.js';

const execute = promisify(execFile);
const CONCURRENCY = 2;

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly private?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
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

async function check(folder: string, tarball: string, versions: ReadonlyMap<string, string>): Promise<string[]> {
  const problems = (await missingFiles(tarball)).map((file) => `${file} is not in the tarball`);
  problems.push(...(await publishProblems(tarball, versions)));
  const tools: readonly (readonly string[])[] = [
    ['publint', 'run', tarball, '--strict'],
    ['attw', tarball, '--profile', 'esm-only', '--format', 'ascii', '--no-color', '--no-emoji'],
  ];
  for (const [program, ...args] of tools) {
    await execute(program, args).catch((error: { stdout?: string; stderr?: string; message: string }) => {
      problems.push(`${program}: ${error.stdout || error.stderr || error.message}`);
    });
  }
  report(readManifest(folder).name, problems);
  return problems;
}

function report(name: string, problems: readonly string[]): void {
  console.log(`${problems.length === 0 ? 'ok    ' : 'FAILED'}  ${name}`);
  for (const problem of problems) console.log(problem.replace(/^/gm, '        '));
}

/** Unpacks the tarballs into node_modules and links the packages of others beside them, so that nothing is fetched. */
async function install(tarballs: ReadonlyMap<string, string>, home: string): Promise<void> {
  for (const [folder, tarball] of tarballs) {
    const { name, dependencies = {} } = readManifest(folder);
    const target = join(home, 'node_modules', name);
    mkdirSync(target, { recursive: true });
    await execute('tar', ['-xzf', tarball, '-C', target, '--strip-components=1']);
    for (const dependency of Object.keys(dependencies)) {
      const link = join(home, 'node_modules', dependency);
      if (dependency.startsWith('@lowbit/') || existsSync(link)) continue;
      mkdirSync(dirname(link), { recursive: true });
      symlinkSync(realpathSync(join(folder, 'node_modules', dependency)), link);
    }
  }
}

const lowbit = '@lowbit/cli/dist/bin.js';

/** Scripts of the installed packages, one after another until one fails. */
async function runScripts(
  name: string,
  home: string,
  scripts: readonly (readonly [string, ...string[]])[],
  folder = home,
): Promise<string[]> {
  const problems: string[] = [];
  for (const [script, ...words] of scripts) {
    if (problems.length > 0) break;
    await execute(process.execPath, [join(home, 'node_modules', script), ...words], { cwd: folder }).catch(
      (error: { stdout?: string; stderr?: string; message: string }) => {
        problems.push(`${script} ${words.join(' ')}: ${error.stderr || error.stdout || error.message}\n${error.stdout ?? ''}`);
      },
    );
  }
  report(name, problems);
  return problems;
}

/** The command of the installed packages on the model that one of them holds. */
async function runInstalled(home: string): Promise<string[]> {
  writeFileSync(join(home, 'package.json'), '{ "type": "module" }\n');
  writeFileSync(join(home, 'recipe.ts'), "import { rtn } from '@lowbit/rtn';\n\nexport default [rtn({ bits: 4 as number })];\n");
  return runScripts('the installed command', home, [
    [lowbit, 'methods'],
    [lowbit, 'quantize', 'tiny', '--recipe', 'recipe.ts', '--out', 'tiny-4', '--quiet'],
    [lowbit, 'inspect', 'tiny-4'],
  ]);
}

/** A method's package as its author makes it: from the template, compiled against the packed types, tested, installed, mixed with another. */
async function runStranger(home: string): Promise<string[]> {
  const packageName = 'lowbit-method-importance';
  const folder = join(home, packageName);
  for (const tool of ['typescript', 'vitest']) symlinkSync(realpathSync(join('node_modules', tool)), join(home, 'node_modules', tool));
  const recipe = 'importance:bits=3,targets=["**.self_attn.*"]+gptq:bits=3,targets=["**.mlp.*"]';
  const made = await runScripts('a new method is made', home, [[lowbit, 'new-method', 'importance']]);
  if (made.length > 0) return made;
  const tested = await runScripts(
    'a new method compiles and passes its tests',
    home,
    [['typescript/bin/tsc'], ['vitest/vitest.mjs', 'run']],
    folder,
  );
  symlinkSync(folder, join(home, 'node_modules', packageName));
  const used = await runScripts('a new method is found and mixed with another', home, [
    [lowbit, 'methods', 'importance'],
    [lowbit, 'quantize', 'tiny', '--recipe', recipe, '--windows', '4', '--out', 'tiny-mixed', '--quiet'],
    [lowbit, 'inspect', 'tiny-mixed'],
  ]);
  return [...tested, ...used];
}

const home = mkdtempSync(join(tmpdir(), 'lowbit-pack-'));
const tarballs = new Map<string, string>();
const queue = publicPackages();
const versions = new Map(queue.map(readManifest).map(({ name, version }) => [name, version]));
let failures = 0;
async function work(): Promise<void> {
  for (let folder = queue.shift(); folder !== undefined; folder = queue.shift()) {
    const tarball = await pack(folder, home);
    tarballs.set(folder, tarball);
    failures += (await check(folder, tarball, versions)).length;
  }
}
try {
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
  await install(tarballs, home);
  failures += (await runInstalled(home)).length;
  failures += (await runStranger(home)).length;
} finally {
  rmSync(home, { recursive: true, force: true });
}
process.exit(failures === 0 ? 0 : 1);
