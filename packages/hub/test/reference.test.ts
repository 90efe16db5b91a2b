import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hubSettings, isHubReference } from '../src/index.js';
import { formatHubReference, parseHubReference } from '../src/reference.js';

const dataset = { kind: 'dataset', repository: 'allenai/ai2_arc', revision: 'main', folder: '' };

describe('parseHubReference', () => {
  it.each([
    ['hf:allenai/ai2_arc', dataset],
    ['hf:allenai/ai2_arc/', dataset],
    ['hf:allenai/ai2_arc/ARC-Easy', { ...dataset, folder: 'ARC-Easy' }],
    ['hf:allenai/ai2_arc/a b/c.d', { ...dataset, folder: 'a b/c.d' }],
    ['hf:allenai/ai2_arc@v1.0', { ...dataset, revision: 'v1.0' }],
    ['hf:allenai/ai2_arc@v1.0/en/x', { ...dataset, revision: 'v1.0', folder: 'en/x' }],
    ['hf:allenai/ai2_arc@feature%2Fx/en', { ...dataset, revision: 'feature/x', folder: 'en' }],
    ['hf:allenai/ai2_arc@refs/convert/parquet', { ...dataset, revision: 'refs/convert/parquet' }],
    ['hf:allenai/ai2_arc@refs/convert/parquet/ARC-Easy', { ...dataset, revision: 'refs/convert/parquet', folder: 'ARC-Easy' }],
    ['hf:allenai/ai2_arc@refs/pr/12', { ...dataset, revision: 'refs/pr/12' }],
  ])('reads %s', (text, expected) => expect(parseHubReference(text, 'dataset')).toEqual(expected));

  it('reads models, which have no folders', () => {
    expect(parseHubReference('hf:Qwen/Qwen2.5-0.5B@abc', 'model')).toEqual({
      kind: 'model',
      repository: 'Qwen/Qwen2.5-0.5B',
      revision: 'abc',
      folder: '',
    });
    expect(() => parseHubReference('hf:Qwen/Qwen2.5-0.5B/onnx', 'model')).toThrow(
      /HUB_REFERENCE.*names no model of the hub; write hf:owner\/name/,
    );
  });

  it.each([
    ...[
      'hf:',
      'hf:gpt2',
      'hf:a/',
      'hf:/b',
      'hf:a/b@',
      'hf:a/b@/c',
      'hf:../b',
      'hf:a/..',
      'hf:a/b/..',
      'hf:a/b/../c',
      'hf:a/b/./c',
      'hf:a/b//c',
    ],
    ...[
      'hf:a/b@..',
      'hf:a/b@%2e%2e%2fx',
      'hf:a/b@%',
      'hf:a/b@x%20y',
      'hf:a/b\\c',
      'hf:a/b/c\\d',
      'hf:a b/c',
      'hf:a/b--c',
      'hf:.a/b',
      'hf:a/b/\0',
    ],
    ...['hf:a/b@%2fetc', 'hf:a/b@x%2f%2fy', 'hf:a/b@-x/c', 'a/b'],
  ])('HUB_REFERENCE for %j', (text) => {
    expect(() => parseHubReference(text, 'dataset')).toThrow(/HUB_REFERENCE/);
  });

  it('reads what formatHubReference writes', () => {
    const part = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_]*([.-][A-Za-z0-9_]+)*$/);
    const revision = fc.oneof(
      fc.constantFrom('main', 'refs/pr/3', 'refs/convert/parquet'),
      part,
      fc.tuple(part, part).map((parts) => parts.join('/')),
    );
    const folder = fc.oneof(
      fc.constant(''),
      fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/')),
    );
    fc.assert(
      fc.property(part, part, revision, folder, (owner, name, one, within) => {
        const reference = { kind: 'dataset', repository: `${owner}/${name}`, revision: one, folder: within } as const;
        expect(parseHubReference(formatHubReference(reference), 'dataset')).toEqual(reference);
      }),
    );
  });

  it('tells references from paths', () => {
    expect(['hf:a/b', 'a/b', './hf:a', 'HF:a/b'].map(isHubReference)).toEqual([true, false, false, false]);
  });
});

describe('hubSettings', () => {
  it('finds the cache where Hugging Face has it', () => {
    expect(hubSettings({ HF_HUB_CACHE: '/a', HF_HOME: '/b', XDG_CACHE_HOME: '/c' }).cache).toBe('/a');
    expect(hubSettings({ HF_HOME: '/b', XDG_CACHE_HOME: '/c' }).cache).toBe('/b/hub');
    expect(hubSettings({ HF_HUB_CACHE: '', XDG_CACHE_HOME: '/c' }).cache).toBe('/c/huggingface/hub');
    expect(hubSettings({}).cache).toMatch(/\.cache\/huggingface\/hub$/);
  });

  it('reads endpoint, token and whether it is offline', () => {
    // Not the token of who runs this.
    expect(hubSettings({ HF_TOKEN_PATH: '/nowhere/token' })).toMatchObject({
      endpoint: 'https://huggingface.co',
      token: undefined,
      isOffline: false,
    });
    const given = hubSettings({ HF_ENDPOINT: 'http://localhost:1/mirror/', HF_TOKEN: ' hf_x\n', HF_HUB_OFFLINE: 'ON' });
    expect(given).toMatchObject({ endpoint: 'http://localhost:1/mirror', token: 'hf_x', isOffline: true });
    expect(hubSettings({ HF_HUB_OFFLINE: '0' }).isOffline).toBe(false);
    expect(() => hubSettings({ HF_ENDPOINT: 'huggingface.co' })).toThrow(/HUB_SETTINGS.*HF_ENDPOINT/);
    expect(() => hubSettings({ HF_ENDPOINT: 'file:///etc' })).toThrow(/HUB_SETTINGS/);
  });

  it('reads the token that hf auth login has left, where it is told to', async () => {
    const home = await mkdtemp(join(tmpdir(), 'lowbit-hub-home-'));
    try {
      const other = join(home, 'other');
      expect(hubSettings({ HF_HOME: home }).token).toBeUndefined();
      await writeFile(join(home, 'token'), 'hf_file\n');
      await writeFile(other, ' hf_other ');
      expect(hubSettings({ HF_HOME: home }).token).toBe('hf_file');
      expect(hubSettings({ HF_HOME: home, HF_TOKEN_PATH: other }).token).toBe('hf_other');
      expect(hubSettings({ HF_HOME: home, HF_TOKEN: 'hf_x' }).token).toBe('hf_x');
      await writeFile(other, '');
      expect(hubSettings({ HF_TOKEN_PATH: other }).token).toBeUndefined();
      expect(() => hubSettings({ HF_TOKEN_PATH: home })).toThrow(/HUB_SETTINGS: .*: the token cannot be read .*hf auth login/);
    } finally {
      await rm(home, { recursive: true });
    }
  });
});
