// lowbit new-method: the package that it makes, names that it refuses, and methods that are installed.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { commandIn, emptyFolder } from './toy-folder.js';

const folder = emptyFolder();
const lowbit = commandIn(folder);

async function install(name: string, method: string): Promise<void> {
  const home = join(folder, 'node_modules', `lowbit-method-${name}`);
  await mkdir(home, { recursive: true });
  await writeFile(join(home, 'package.json'), JSON.stringify({ name: `lowbit-method-${name}`, type: 'module', exports: './index.js' }));
  await writeFile(join(home, 'index.js'), method);
}

/** A method that does nothing, as compiled. */
function methodOf(name: string): string {
  const schema = "{ '~standard': { version: 1, vendor: 'none', validate: (value) => ({ value }) } }";
  return `const definition = { name: '${name}', version: 1, options: ${schema}, quantizeLinear: async (linear) => linear };
export default Object.assign((options = {}) => ({ method: definition, options, targets: ['**'], overrides: [] }), { definition });`;
}

describe('lowbit new-method', () => {
  it('makes the package that example 03 is, under another name', async () => {
    expect(await lowbit('new-method', 'own-rounding')).toMatchObject({ code: 0, errors: '' });
    const home = join(folder, 'lowbit-method-own-rounding');
    const example = fileURLToPath(new URL('../../../examples/03-write-a-method', import.meta.url));
    for (const file of ['src/index.ts', 'test/method.test.ts']) {
      const text = await readFile(join(home, file), 'utf8');
      expect(text.replaceAll('own-rounding', 'importance')).toBe(await readFile(join(example, file), 'utf8'));
    }
    const manifest = JSON.parse(await readFile(join(home, 'package.json'), 'utf8')) as Record<string, Record<string, string>>;
    expect(manifest).toMatchObject({ name: 'lowbit-method-own-rounding', scripts: { test: 'vitest run', build: 'tsc' } });
    expect(Object.keys(manifest['peerDependencies'])).toEqual(['@lowbit/core']);
    const readme = await readFile(join(home, 'README.md'), 'utf8');
    expect(readme).toMatch(/^# lowbit-method-own-rounding\n/);
    expect(readme).not.toMatch(/\{\{|__/);
    expect((await readFile(join(home, 'src/index.ts'), 'utf8')).split('\n').length).toBeLessThan(60);
  });

  it('asks for the versions that it is tested with itself', async () => {
    await lowbit('new-method', 'ranges');
    const { devDependencies, dependencies } = JSON.parse(
      await readFile(join(folder, 'lowbit-method-ranges/package.json'), 'utf8'),
    ) as Record<string, Record<string, string>>;
    const own = JSON.parse(await readFile(new URL('../../../package.json', import.meta.url), 'utf8')) as typeof devDependencies & {
      devDependencies: Record<string, string>;
    };
    const { typescript, vitest } = own.devDependencies;
    expect(devDependencies).toMatchObject({ typescript, vitest });
    const cli = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as typeof own & { version: string };
    expect(dependencies).toEqual({ '@lowbit/quant': `^${cli.version}`, zod: cli.devDependencies['zod'] });
  });

  it.each(['Big', '2bits', 'a--b', 'a/b', '../a', 'rtn'])('refuses the name %s', async (name) => {
    expect(await lowbit('new-method', name)).toMatchObject({ code: 2, errors: expect.stringContaining('METHOD_NAME') as string });
  });

  it('overwrites nothing unless told to', async () => {
    await mkdir(join(folder, 'full'), { recursive: true });
    await writeFile(join(folder, 'full', 'notes.txt'), 'mine');
    expect(await lowbit('new-method', 'mine', '--out', 'full')).toMatchObject({
      code: 2,
      errors: expect.stringContaining('OUTPUT_EXISTS') as string,
    });
    expect((await lowbit('new-method', 'mine', '--out', 'full', '--force')).code).toBe(0);
    expect(await readFile(join(folder, 'full', 'notes.txt'), 'utf8')).toBe('mine');
  });
});

describe('methods that are installed', () => {
  it('are listed behind the built-in ones, and one that cannot be used hides no other', async () => {
    await install('first', methodOf('first'));
    await install('broken', 'throw new Error("not today");');
    await install('zeros', methodOf('zeros'));
    const { code, output, errors } = await lowbit('methods', '--json');
    const names = output
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { method: string }).method);
    expect(code).toBe(0);
    expect(names.slice(-2)).toEqual(['first', 'zeros']);
    expect(errors).toMatch(/^METHOD_PACKAGE: lowbit-method-broken: .*not today/);
  });

  it.each([
    ['unbuilt', { exports: { '.': { types: './dist/index.d.ts', default: './dist/index.js' } } }, /unbuilt\/dist\/index\.js is not there/],
    ['unbuilt-main', { main: './dist/index.js' }, /is not there/],
    ['mainless', {}, /its main file is not there/],
  ])('are found before they are built, with what to do: %s', async (name, members, message) => {
    const home = join(folder, 'node_modules', `lowbit-method-${name}`);
    await mkdir(home, { recursive: true });
    await writeFile(join(home, 'package.json'), JSON.stringify({ name: `lowbit-method-${name}`, type: 'module', ...members }));
    const [asked, used, listed] = [
      await lowbit('methods', name),
      await lowbit('quantize', 'tiny', '--recipe', name, '--out', 'unmade'),
      await lowbit('methods'),
    ];
    expect([asked.code, used.code, listed.code]).toEqual([2, 2, 0]);
    for (const { errors } of [asked, used, listed]) {
      expect(errors).toMatch(message);
      expect(errors).toContain(`METHOD_PACKAGE: lowbit-method-${name}: is installed at ${home}, but `);
      expect(errors).toContain(`; build it, with npm run build in ${home}, or install it again`);
    }
  });

  it('are refused with what is wrong with their manifests', async () => {
    const home = join(folder, 'node_modules', 'lowbit-method-garbled');
    await mkdir(home, { recursive: true });
    await writeFile(join(home, 'package.json'), '{ "name": ');
    expect(await lowbit('methods', 'garbled')).toMatchObject({
      code: 2,
      errors: expect.stringMatching(/METHOD_PACKAGE: .*its package\.json cannot be used \(.*; correct it/s) as string,
    });
  });

  it('are called as their packages are', async () => {
    await install('nick', methodOf('name'));
    expect(await lowbit('methods', 'nick')).toMatchObject({
      code: 2,
      errors: expect.stringContaining("its method is called 'name'") as string,
    });
  });
});
