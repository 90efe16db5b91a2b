// oracle:tfjs-node: builds TensorFlow.js' binding for Node against the TensorFlow library of PyPI's tensorflow-cpu, without its own download,
// and runs the contract of a backend on it. Linux x64, g++, Python 3.9 to 3.11 with pip; 210 MB to fetch, 700 MB on disk.
import { access, mkdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runProgram } from '../../../scripts/python-environment.js';

const TFJS_NODE = '@tensorflow/tfjs-node@4.22.0';
/** The binding is written for 2.9, whose wheels hold no library to link with; those from 2.12 on do, with the same functions of C. */
const TENSORFLOW = 'tensorflow-cpu==2.15.1';
const NODE_API_HEADERS = 'node-api-headers@1.9.0';

const say = (line: string): void => void process.stdout.write(`${line}\n`);

const home = join(tmpdir(), 'lowbit-oracle-tfjs-node');
const project = join(home, 'project');
const wheel = join(home, 'wheel');
const tfjsNode = join(project, 'node_modules', '@tensorflow', 'tfjs-node');

/** Fetches and builds what is not there yet. */
async function build(): Promise<void> {
  const marker = join(home, 'built.txt');
  const wanted = `${TFJS_NODE} ${TENSORFLOW} ${NODE_API_HEADERS}`;
  if ((await readFile(marker, 'utf8').catch(() => '')) === wanted) return;
  await rm(home, { recursive: true, force: true });
  await mkdir(project, { recursive: true });
  await writeFile(join(project, 'package.json'), '{ "private": true }\n');

  say(`${TFJS_NODE} from npm, without its install script`);
  const packages = [TFJS_NODE, NODE_API_HEADERS];
  await runProgram('npm', ['install', '--prefix', project, '--ignore-scripts', '--no-audit', '--no-fund', '--silent', ...packages]);

  say(`${TENSORFLOW} from PyPI: 210 MB`);
  const pip = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--no-compile', '--only-binary', ':all:', '--disable-pip-version-check'];
  await runProgram(process.env.PYTHON ?? 'python3', [...pip, '--target', wheel, TENSORFLOW]);

  say('the binding');
  const library = join(wheel, 'tensorflow');
  const output = join(tfjsNode, 'lib', 'napi-v8');
  await mkdir(output, { recursive: true });
  await runProgram('g++', [
    ...['-O2', '-shared', '-fPIC', '-std=c++17', '-DNAPI_VERSION=8'],
    ...[join(project, 'node_modules', 'node-api-headers', 'include'), tfjsNode, join(library, 'include')].map((folder) => `-I${folder}`),
    ...['tfjs_backend.cc', 'tfjs_binding.cc'].map((file) => join(tfjsNode, 'binding', file)),
    ...['-o', join(output, 'tfjs_binding.node'), `-L${library}`, `-Wl,-rpath,${library}`],
    ...['-l:libtensorflow_cc.so.2', '-l:libtensorflow_framework.so.2'],
  ]);
  await writeFile(marker, wanted);
}

/** Links the package where ours looks for it while `use` runs. Throws EEXIST where it is installed. */
async function linked(use: () => Promise<void>): Promise<void> {
  const link = fileURLToPath(new URL('../node_modules/@tensorflow/tfjs-node', import.meta.url));
  // One of a run that was killed stays; anything else is the user's.
  const existing = await readlink(link).catch(() => undefined);
  if (existing !== tfjsNode) await symlink(tfjsNode, link);
  try {
    await use();
  } finally {
    await rm(link);
  }
}

await build();
await access(join(tfjsNode, 'lib', 'napi-v8', 'tfjs_binding.node'));
await linked(async () => {
  await runProgram('vitest', ['run', 'packages/backend-tfjs/test/conformance.node.test.ts']);
});
