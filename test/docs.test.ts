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
  return headings.map((heading) => heading.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, '').trim().replaceAll(' ', '-'));
}

describe('links', () => {
  it.each(documents)('of $name lead somewhere', ({ path, text }) => {
    const targets = [...proseOf(text).matchAll(/\]\(([^)\s]+)\)/g), ...proseOf(text).matchAll(/<img[^>]+src="([^"]+)"/g)].map((match) => match[1]);
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

/** A ```ts block as a module that lies where its imports resolve: in its package, or for documents of the whole in the cli package. */
function codeBlocks(): Map<string, string> {
  const blocks = new Map<string, string>();
  for (const { name, text } of documents) {
    const [parent, child] = name.split('/');
    const home = ['packages', 'plugins', 'examples'].includes(parent) ? join(root, parent, child) : join(root, 'packages/cli');
    [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].forEach((match, i) => {
      blocks.set(join(home, `${name.replaceAll(/[/.]/g, '-')}-block-${i + 1}.ts`), `${match[1]}\nexport {};\n`);
    });
  }
  return blocks;
}

it('TypeScript blocks compile', () => {
  const blocks = codeBlocks();
  const config = ts.readConfigFile(join(root, 'tsconfig.test.json'), ts.sys.readFile) as { config: { compilerOptions: object } };
  const { options } = ts.parseJsonConfigFileContent({ extends: './tsconfig.test.json', ...config.config, include: [], files: [] }, ts.sys, root);
  const compilerOptions: ts.CompilerOptions = { ...options, noEmit: true, noUnusedLocals: false, noUnusedParameters: false };
  delete compilerOptions.tsBuildInfoFile;
  const host = ts.createCompilerHost(compilerOptions);
  const { fileExists, getSourceFile, readFile } = host;
  host.fileExists = (file) => blocks.has(file) || fileExists(file);
  host.readFile = (file) => blocks.get(file) ?? readFile(file);
  host.getSourceFile = (file, version, ...rest) => {
    const block = blocks.get(file);
    return block === undefined ? getSourceFile(file, version, ...rest) : ts.createSourceFile(file, block, version);
  };
  const program = ts.createProgram([...blocks.keys()], compilerOptions, host);
  const problems = [...blocks.keys()].flatMap((file) => {
    const source = program.getSourceFile(file);
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(
      (diagnostic) => `${relative(root, file)}: ${ts.flattenDiagnosticMessageText(diagnostic.messageText, ' ')}`,
    );
  });
  expect(problems).toEqual([]);
});
