// Quantized checkpoints: what comes back is what was saved, bit for bit, and a damaged section is refused.
import { readFile, writeFile } from 'node:fs/promises';
import { createRng, read, tensor } from '@lowbit/core';
import { AffineWeight, QuantizedLinear } from '@lowbit/quant';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openCheckpoint, saveCheckpoint } from '../src/index.js';
import type { LinearRecord } from '../src/linear-record.js';
import { contents, filesOf, load, mixed, stateContents, toy } from './mixed-model.js';
import { temporaryDirectory } from './temporary-directory.js';

const at = temporaryDirectory();

interface Section {
  formatVersion: number;
  linears: Record<string, LinearRecord>;
}

describe('a quantized checkpoint', () => {
  it('comes back bit for bit, lazily, in every representation', async () => {
    const model = mixed();
    await saveCheckpoint(at('out'), model);
    const checkpoint = await openCheckpoint(at('out'));
    expect([...checkpoint.linears.keys()]).toEqual([
      'lm_head',
      'model.layers.0.mlp.down_proj',
      'model.layers.0.mlp.up_proj',
      'model.layers.0.self_attn.k_proj',
      'model.layers.0.self_attn.o_proj',
      'model.layers.0.self_attn.q_proj',
      'model.layers.0.self_attn.v_proj',
    ]);
    const loaded = load(checkpoint, model);
    expect(await contents(loaded)).toEqual(await contents(model));
    for (const [path, state] of checkpoint.linears) {
      const original = path === 'lm_head' ? model.head : model.blocks[0].linears[path.slice('model.layers.0.'.length)];
      expect(await stateContents(state)).toEqual(await stateContents(original.state()));
      expect(Object.values(state.tensors).every((t) => t.source.kind === 'leaf' && t.source.data === undefined)).toBe(true);
    }
  });

  it('takes the bits that its Linears count', async () => {
    await saveCheckpoint(at('out'), mixed());
    const { entries } = await openCheckpoint(at('out'));
    expect(entries.get('model.layers.0.self_attn.q_proj.codes')).toEqual({ shape: [(32 * 32 * 2) / 8], dtype: 'U8' });
    expect(entries.get('model.layers.0.self_attn.k_proj.zeroPoint')).toEqual({ shape: [Math.ceil((16 * 2 * 3) / 8)], dtype: 'U8' });
    expect(entries.get('model.layers.0.self_attn.q_proj.scale')?.dtype).toBe('F16');
    expect(entries.get('model.layers.0.self_attn.v_proj.scale')?.dtype).toBe('F32');
    expect(entries.get('model.layers.0.self_attn.q_proj.bias')?.dtype).toBe('BF16');
    expect(entries.get('model.layers.0.mlp.up_proj.base.weight')?.dtype).toBe('BF16');
    expect(entries.get('model.layers.1.mlp.down_proj.weight')?.dtype).toBe('BF16');
    expect(entries.get('model.layers.0.mlp.down_proj.down')).toEqual({ shape: [2, 48], dtype: 'F32' });
    expect(entries.get('model.layers.0.mlp.down_proj.base.down')).toEqual({ shape: [4, 48], dtype: 'F16' });
    expect(entries.get('model.layers.0.mlp.down_proj.base.base.codes')).toEqual({ shape: [(32 * 48 * 2) / 8], dtype: 'U8' });
    expect(entries.get('model.layers.1.mlp.gate_proj.weight')?.dtype).toBe('F32'); // bitsPerElement 32
  });

  it('is the same bytes when saved again, from the model or from itself', async () => {
    const recipe = [
      { method: 'rtn', version: 1, options: { bits: 4 }, targets: ['**'], overrides: [{ glob: '**.down_proj', options: { bits: 8 } }] },
    ];
    const task = { description: 'a.tsv, 2 labels', hash: 'ab', protocol: { template: '{a}: {b}', labels: { 0: 'x', 1: 'y' } } };
    const options = {
      recipe,
      versions: { b: '2', a: '1' },
      seed: 7,
      task,
      sideFiles: new Map([['tokenizer.json', { read: async () => Buffer.from('{}') }]]),
    };
    const model = mixed();
    await saveCheckpoint(at('1'), model, options);
    await saveCheckpoint(at('2'), model, { ...options, versions: { a: '1', b: '2' } });
    expect(await filesOf(at('2'))).toEqual(await filesOf(at('1')));
    const checkpoint = await openCheckpoint(at('1'));
    expect(checkpoint.provenance).toEqual({ recipe, versions: { a: '1', b: '2' }, seed: 7, task });
    await saveCheckpoint(at('3'), load(checkpoint, model), { ...checkpoint.provenance, sideFiles: checkpoint.sideFiles });
    expect(await filesOf(at('3'))).toEqual(await filesOf(at('1')));
  });

  it('shows the source config to readers and a warning to other software', async () => {
    const model = mixed();
    await saveCheckpoint(at('out'), model);
    expect((await openCheckpoint(at('out'))).config).toEqual(model.config.source);
    const written = JSON.parse(await readFile(at('out', 'config.json'), 'utf8'));
    expect(written.quantization_config).toEqual({ quant_method: 'lowbit' });
    expect(written.lowbit.formatVersion).toBe(1);
  });

  it('keeps codes of any shape and width', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 9 }),
        fc.nat(),
        async (bits, out, inFeatures, seed) => {
          const codes = Uint8Array.from(createRng(seed).integers(out * inFeatures, 2 ** bits));
          const model = toy();
          const weight = new AffineWeight({
            bits,
            codes: tensor(codes, [out, inFeatures]),
            scale: tensor(new Float32Array(out), [out, 1]),
            scaleDtype: 'float16',
          });
          await saveCheckpoint(at('out'), model.with({ head: new QuantizedLinear(weight) }), { overwrite: true });
          const head = (await openCheckpoint(at('out'))).linears.get('lm_head');
          expect([head?.tensors.codes.shape, await read(head!.tensors.codes)]).toEqual([[out, inFeatures], codes]);
        },
      ),
      { numRuns: 20 },
    );
  });

  const damage: [what: string, code: string, change: (lowbit: Section) => void][] = [
    [
      'another bit width',
      'CHECKPOINT_LINEAR: .*q_proj.*must be the 384 bytes of 1024 codes of 3 bits',
      (l) => {
        l.linears['model.layers.0.self_attn.q_proj'].tensors.codes.packed!.bits = 3;
      },
    ],
    [
      'an absurd shape',
      'CHECKPOINT_LINEAR',
      (l) => {
        l.linears['model.layers.0.self_attn.q_proj'].tensors.codes.packed!.shape = [2 ** 50, 2 ** 50];
      },
    ],
    [
      'a tensor that is not there',
      "CHECKPOINT_LINEAR: .*q_proj: its tensor '.*q_proj.scales' is not in the checkpoint",
      (l) => {
        l.linears['model.layers.0.self_attn.q_proj'].tensors.scales = {};
      },
    ],
    [
      'half where there is none',
      'CHECKPOINT_LINEAR: .*v_proj.*must be F16 and is F32',
      (l) => {
        l.linears['model.layers.0.self_attn.v_proj'].tensors.scale.half = true;
      },
    ],
    [
      'nine bits',
      'CONFIG_JSON: .*config.json: lowbit: linears.model.layers.0.self_attn.q_proj.tensors.codes.packed.bits: Too big',
      (l) => {
        l.linears['model.layers.0.self_attn.q_proj'].tensors.codes.packed!.bits = 9;
      },
    ],
    [
      'a later format',
      'CHECKPOINT_VERSION: .*has checkpoint format 3 and this lowbit reads up to 2; install a newer one',
      (l) => {
        l.formatVersion = 3;
      },
    ],
    [
      'endless wrapping',
      'CONFIG_JSON',
      (l) => {
        for (let i = 0, r = l.linears.lm_head; i < 9; i++, r = r.parts.base) r.parts = { base: { kind: 'x', attributes: {}, tensors: {} } };
      },
    ],
  ];
  it.each(damage)('refuses a section with %s', async (_, message, change) => {
    await saveCheckpoint(at('out'), mixed());
    const config = JSON.parse(await readFile(at('out', 'config.json'), 'utf8'));
    change(config.lowbit);
    await writeFile(at('out', 'config.json'), JSON.stringify(config));
    await expect(openCheckpoint(at('out'))).rejects.toThrow(new RegExp(`^${message}`));
  });
});
