// Models that cannot be used: each a code, a sentence that names the thing and the remedy, exit code 2, and nothing written.
import { mkdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, it } from 'vitest';
import {
  badInputFolder,
  broken,
  type Case,
  expectRefusal,
  Q_PROJ,
  quantizing,
  WEIGHTS,
  withConfig,
  withElement,
  withHeader,
} from './bad-input.js';

let folder: string;
let remove: () => Promise<void>;
beforeAll(async () => {
  ({ folder, remove } = await badInputFolder());
});
afterAll(() => remove());

/** Of bfloat16, little endian. */
const NAN = [0xc0, 0x7f];

const models: readonly Case[] = [
  { what: 'a model that is not there', words: quantizing('nowhere'), code: 'MODEL_REFERENCE', says: /nowhere.*tiny/s },
  { what: 'a misspelled model', words: quantizing('tyni'), code: 'MODEL_REFERENCE', says: /tyni.*tiny/s },
  { what: 'a file in the place of a directory', words: quantizing('text.txt'), code: 'CHECKPOINT_MISSING', says: /text\.txt/ },
  {
    what: 'an empty directory',
    words: quantizing(async (folder) => {
      await mkdir(join(folder, 'empty'), { recursive: true });
      return 'empty';
    }),
    code: 'CHECKPOINT_MISSING',
    says: /empty.*config\.json/s,
  },
  {
    what: 'no weights',
    words: quantizing(broken('weightless', (d) => rm(join(d, WEIGHTS)))),
    code: 'CHECKPOINT_MISSING',
    says: /weightless/,
  },
  {
    what: 'no tokenizer',
    words: quantizing(broken('speechless', (d) => rm(join(d, 'tokenizer.json')))),
    code: 'TOKENIZER_MISSING',
    says: /tokenizer\.json/,
  },
  {
    what: 'a config that is no JSON',
    words: quantizing(broken('garbled', (d) => writeFile(join(d, 'config.json'), '{ "model_type": '))),
    code: 'JSON_FILE',
    says: /config\.json/,
  },
  {
    what: 'a family that is not known',
    words: quantizing(broken('exotic', withConfig({ model_type: 'mamba', architectures: ['MambaForCausalLM'] }))),
    code: 'MODEL_UNKNOWN',
    says: /mamba.*llama/is,
  },
  {
    what: 'a config without a width',
    words: quantizing(broken('widthless', withConfig({ hidden_size: undefined }))),
    code: 'MODEL_CONFIG',
    says: /hidden_size/,
  },
  {
    what: 'heads that do not divide',
    words: quantizing(broken('headless', withConfig({ num_attention_heads: 3 }))),
    code: 'MODEL_CONFIG',
    says: /head/,
  },
  {
    what: 'an activation function that is not known',
    words: quantizing(broken('swish', withConfig({ hidden_act: 'softplus' }))),
    code: 'MODEL_OPTION',
    says: /softplus/,
  },
];

const files: readonly Case[] = [
  {
    what: 'a truncated file of weights',
    words: quantizing(broken('cut', (d) => truncate(join(d, WEIGHTS), 20_000))),
    code: 'SAFETENSORS_TENSOR',
    says: /model\.safetensors.*again/s,
  },
  {
    what: 'a file cut within its header',
    words: quantizing(broken('stub', (d) => truncate(join(d, WEIGHTS), 100))),
    code: 'SAFETENSORS_HEADER',
    says: /model\.safetensors/,
  },
  {
    what: 'an empty file of weights',
    words: quantizing(broken('void', (d) => truncate(join(d, WEIGHTS), 0))),
    code: 'SAFETENSORS_HEADER',
    says: /model\.safetensors/,
  },
  {
    what: 'a header that is no JSON',
    words: quantizing(
      broken(
        'noise',
        withHeader(() => '{"a":'),
      ),
    ),
    code: 'SAFETENSORS_HEADER',
    says: /model\.safetensors/,
  },
  {
    what: 'offsets beyond the file',
    words: quantizing(
      broken(
        'beyond',
        withHeader((h) => (h[Q_PROJ].data_offsets[1] += 1 << 20)),
      ),
    ),
    code: 'SAFETENSORS_TENSOR',
    says: /q_proj/,
  },
  {
    what: 'offsets that overlap',
    words: quantizing(
      broken(
        'overlap',
        withHeader((h) => (h[Q_PROJ].data_offsets = [0, 2048])),
      ),
    ),
    code: 'SAFETENSORS_TENSOR',
    says: /model\.safetensors/,
  },
  {
    what: 'a shape that its bytes do not fill',
    words: quantizing(
      broken(
        'lying',
        withHeader((h) => (h[Q_PROJ].shape = [32, 33])),
      ),
    ),
    code: 'SAFETENSORS_TENSOR',
    says: /q_proj/,
  },
  {
    what: 'an element type that is not known',
    words: quantizing(
      broken(
        'typed',
        withHeader((h) => {
          h[Q_PROJ].dtype = 'F7';
        }),
      ),
    ),
    code: 'SAFETENSORS_TENSOR',
    says: /F7/,
  },
  {
    what: 'a tensor of another shape than the config says',
    words: quantizing(
      broken(
        'shaped',
        withHeader((h) => (h[Q_PROJ].shape = [16, 64])),
      ),
    ),
    code: 'TENSOR_SHAPE',
    says: /q_proj.*\[32, 32\]/s,
  },
  {
    what: 'a tensor that is missing',
    words: quantizing(
      broken(
        'missing',
        withHeader((h) => {
          h['model.layers.0.self_attn.elsewhere'] = h[Q_PROJ];
          delete h[Q_PROJ];
        }),
      ),
    ),
    code: 'TENSOR_MISSING',
    says: /q_proj/,
  },
  {
    what: 'fewer blocks than the config says',
    words: quantizing(broken('shallow', withConfig({ num_hidden_layers: 3 }))),
    code: 'TENSOR_MISSING',
    says: /layers\.2/,
  },
  { what: 'NaN in a weight', words: quantizing(broken('nan', withElement(Q_PROJ, NAN))), code: 'WEIGHT_NOT_FINITE', says: /q_proj/ },
  {
    what: 'a tokenizer that is no JSON',
    words: quantizing(broken('mute', (d) => writeFile(join(d, 'tokenizer.json'), 'hello'))),
    code: 'JSON_FILE',
    says: /tokenizer\.json/,
  },
  {
    what: 'a vocabulary that is not that of the weights',
    words: quantizing(broken('narrow', withConfig({ vocab_size: 200 }))),
    code: 'TENSOR_SHAPE',
    says: /embed_tokens/,
  },
  {
    what: 'a tokenizer of another model',
    words: quantizing(
      broken('foreign', async (d) => {
        const path = join(d, 'tokenizer.json');
        const tokenizer = JSON.parse(await readFile(path, 'utf8')) as { model: { vocab: Record<string, number> } };
        tokenizer.model.vocab['e'] = 5000;
        await writeFile(path, JSON.stringify(tokenizer));
      }),
    ),
    code: 'TOKEN_RANGE',
    says: /5000.*257.*tokenizer\.json beside its weights/s,
  },
];

describe.each([
  ['models', models],
  ['files', files],
] as const)('%s', (_, cases) => {
  it.each(cases)('$what', (one) => expectRefusal(folder, one));
});
