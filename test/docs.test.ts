// The documents: every relative link leads somewhere, and every TypeScript block compiles against the packages.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { root } from './workspace.js';

const SKIPPED_FOLDERS = ['node_modules', 'dist', 'runs', '.git', '.changeset', '.turbo'];

function markdownFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return SKIPPED_FOLDERS.includes(entry.name) ? [] : markdownFiles(path);
    return entry.name.endsWith('.md') ? [path] : [];
  });
}

const documents = markdownFiles(root).map((path) => ({ path, name: relative(root, path), text: readFileSync(path, 'utf8') }));

/** Text outside fenced code. */
function proseOf(text: string): string {
  return text.replace(/^```[\s\S]*?^```$/gm, '').replace(/`[^`\n]*`/g, '');
}

/** Anchors as GitHub makes them from headings. */
function anchorsOf(text: string): string[] {
  const headings = [...proseOf(text).matchAll(/^#+ +(.*)$/gm)].map((match) => match[1]);
  return headings.map((heading) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .trim()
      .replaceAll(' ', '-'),
  );
}

describe('links', () => {
  it.each(documents)('of $name lead somewhere', ({ path, text }) => {
    const targets = [...proseOf(text).matchAll(/\]\(([^)\s]+)\)/g), ...proseOf(text).matchAll(/<img[^>]+src="([^"]+)"/g)].map(
      (match) => match[1],
    );
    const broken = targets.filter((target) => {
      if (/^[a-z]+:/.test(target)) return false;
      const [file, anchor] = target.split('#');
      const linked = file === '' ? path : resolve(dirname(path), file);
      if (!existsSync(linked)) return true;
      return anchor !== undefined && linked.endsWith('.md') && !anchorsOf(readFileSync(linked, 'utf8')).includes(anchor);
    });
    expect(broken).toEqual([]);
  });
});

interface Block {
  /** The document, and which block of it. */
  readonly name: string;
  /** Where the block lies for the compiler. Third-party packages are found from there, ours by `paths`. */
  readonly file: string;
  readonly text: string;
  /** READMEs of packages may leave out what an example presupposes (a backend, a model); other documents may not. */
  readonly isExcerpt: boolean;
}

function codeBlocks(): Block[] {
  return documents.flatMap(({ name, text }) =>
    [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map((match, i) => ({
      name: `${name}, block ${i + 1}`,
      file: join(root, 'packages/cli', `${name.replaceAll(/[/.]/g, '-')}-${i + 1}.ts`),
      text: `${match[1]}\nexport {};\n`,
      isExcerpt: /^(packages|plugins)\//.test(name),
    })),
  );
}

/** 'Cannot find name', with and without a suggestion, and the same for a shorthand property. */
const MISSING_NAME = [2304, 2552, 18004];

function compilerOptions(): ts.CompilerOptions {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.base.json'), ts.sys.readFile) as { config: { compilerOptions: object } };
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, root);
  const { tsBuildInfoFile: _, composite: __, ...rest } = options;
  return {
    ...rest,
    noEmit: true,
    declaration: false,
    declarationMap: false,
    noUnusedLocals: false,
    noUnusedParameters: false,
    baseUrl: root,
    paths: { '@lowbit/*': ['packages/*/src/index.ts', 'plugins/*/src/index.ts'] },
  };
}

it('TypeScript blocks compile', () => {
  const blocks = new Map(codeBlocks().map((block) => [block.file, block]));
  const options = compilerOptions();
  const host = ts.createCompilerHost(options);
  const { fileExists, getSourceFile, readFile } = host;
  host.fileExists = (file) => blocks.has(file) || fileExists(file);
  host.readFile = (file) => blocks.get(file)?.text ?? readFile(file);
  host.getSourceFile = (file, version, ...rest) => {
    const block = blocks.get(file);
    return block ? ts.createSourceFile(file, block.text, version) : getSourceFile(file, version, ...rest);
  };
  const program = ts.createProgram([...blocks.keys()], options, host);
  const problems = [...blocks.values()].flatMap(({ name, file, isExcerpt }) => {
    const source = program.getSourceFile(file);
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)]
      .filter(({ code }) => !(isExcerpt && MISSING_NAME.includes(code)))
      .map(({ messageText }) => `${name}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`);
  });
  expect(problems).toEqual([]);
});
