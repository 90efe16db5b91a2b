// Models that cannot be used: each a code, a sentence that names the thing and the remedy, exit code 2, and nothing written.
import { mkdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'vitest';
import { broken, type Case, expectRefusal, Q_PROJ, quantizing, WEIGHTS, withConfig, withElement, withHeader } from './bad-input.js';
import { toyFolder } from './toy-folder.js';

const folder = toyFolder();

/** Of bfloat16, little endian. */
const NAN = [0xc0, 0x7f];

const models: readonly Case[] = [
  {
    what: 'a model that is not there',
    words: quantizing('nowhere'),
    code: 'MODEL_REFERENCE',
    says: /nowhere.*tiny/s,
    remedy: /known: tiny, .* the directory of a checkpoint, or hf:owner\/name/,
  },
  { what: 'a misspelled model', words: quantizing('tyni'), code: 'MODEL_REFERENCE', says: /tyni.*tiny/s, remedy: /did you mean 'tiny'\?/ },
  {
    what: 'a file in the place of a directory',
    words: quantizing('text.txt'),
    code: 'CHECKPOINT_MISSING',
    says: /text\.txt/,
    remedy: /give the directory that holds config\.json/,
  },
  {
    what: 'an empty directory',
    words: quantizing(async (folder) => {
      await mkdir(join(folder, 'empty'), { recursive: true });
      return 'empty';
    }),
    code: 'CHECKPOINT_MISSING',
    says: /empty.*config\.json/s,
    remedy: /Give a directory in Hugging Face layout with safetensors weights/,
  },
  {
    what: 'no weights',
    words: quantizing(broken('weightless', (d) => rm(join(d, WEIGHTS)))),
    code: 'CHECKPOINT_MISSING',
    says: /weightless/,
    remedy: /Give a directory in Hugging Face layout with safetensors weights/,
  },
  {
    what: 'no tokenizer',
    words: quantizing(broken('speechless', (d) => rm(join(d, 'tokenizer.json')))),
    code: 'TOKENIZER_MISSING',
    says: /tokenizer\.json/,
    remedy: /copy it from the model's source into the directory/,
  },
  {
    what: 'a config that is no JSON',
    words: quantizing(broken('garbled', (d) => writeFile(join(d, 'config.json'), '{ "model_type": '))),
    code: 'JSON_FILE',
    says: /config\.json/,
    remedy: /repair it or fetch it again/,
  },
  {
    what: 'a family that is not known',
    words: quantizing(broken('exotic', withConfig({ model_type: 'mamba', architectures: ['MambaForCausalLM'] }))),
    code: 'MODEL_UNKNOWN',
    says: /mamba.*llama/is,
    remedy: /choose a model of one of llama, .*gpt2/,
  },
  {
    what: 'a config without a width',
    words: quantizing(broken('widthless', withConfig({ hidden_size: undefined }))),
    code: 'MODEL_CONFIG',
    says: /hidden_size/,
    remedy: /complete or correct it/,
  },
  {
    what: 'heads that do not divide',
    words: quantizing(broken('headless', withConfig({ num_attention_heads: 3 }))),
    code: 'MODEL_CONFIG',
    says: /head/,
    remedy: /correct it/,
  },
  {
    what: 'an activation function that is not known',
    words: quantizing(broken('swish', withConfig({ hidden_act: 'softplus' }))),
    code: 'MODEL_OPTION',
    says: /softplus/,
    remedy: /choose a model with one of silu/,
  },
];

const files: readonly Case[] = [
  {
    what: 'a truncated file of weights',
    words: quantizing(broken('cut', (d) => truncate(join(d, WEIGHTS), 20_000))),
    code: 'SAFETENSORS_TENSOR',
    says: /model\.safetensors.*again/s,
    remedy: /truncated or damaged, fetch it again/,
  },
  {
    what: 'a file cut within its header',
    words: quantizing(broken('stub', (d) => truncate(join(d, WEIGHTS), 100))),
    code: 'SAFETENSORS_HEADER',
    says: /model\.safetensors/,
    remedy: /truncated or damaged, fetch it again/,
  },
  {
    what: 'an empty file of weights',
    words: quantizing(broken('void', (d) => truncate(join(d, WEIGHTS), 0))),
    code: 'SAFETENSORS_HEADER',
    says: /model\.safetensors/,
    remedy: /fetch it again/,
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
    remedy: /fetch it again/,
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
    remedy: /truncated or damaged, fetch it again/,
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
    remedy: /the file is damaged, fetch it again/,
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
    remedy: /the header is damaged, fetch the file again/,
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
    remedy: /known are .*BF16.*fetch the file again/,
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
    remedy: /fetch both from one place/,
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
    remedy: /fetch it again with its own config\.json/,
  },
  {
    what: 'fewer blocks than the config says',
    words: quantizing(broken('shallow', withConfig({ num_hidden_layers: 3 }))),
    code: 'TENSOR_MISSING',
    says: /layers\.2/,
    remedy: /fetch it again with its own config\.json/,
  },
  {
    what: 'NaN in a weight',
    words: quantizing(broken('nan', withElement(Q_PROJ, NAN))),
    code: 'WEIGHT_NOT_FINITE',
    says: /q_proj/,
    remedy: /get the checkpoint anew/,
  },
  {
    what: 'a tokenizer that is no JSON',
    words: quantizing(broken('mute', (d) => writeFile(join(d, 'tokenizer.json'), 'hello'))),
    code: 'JSON_FILE',
    says: /tokenizer\.json/,
    remedy: /repair it or fetch it again/,
  },
  {
    what: 'a vocabulary that is not that of the weights',
    words: quantizing(broken('narrow', withConfig({ vocab_size: 200 }))),
    code: 'TENSOR_SHAPE',
    says: /embed_tokens/,
    remedy: /fetch both from one place/,
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
    remedy: /put the model's own tokenizer\.json beside its weights/,
  },
];

describe.each([
  ['models', models],
  ['files', files],
] as const)('%s', (_, cases) => {
  it.each(cases)('$what', (one) => expectRefusal(folder, one));
});
