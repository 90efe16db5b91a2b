// What the file system refuses becomes an error that says what to do.
import { chmod, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { LowbitError } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { writeFileAtomically, writeFilesTogether } from '../src/atomic-write.js';
import { openSafetensors } from '../src/index.js';
import { fileError, readRange, readSmallFile, withFile } from '../src/read-file.js';
import { temporaryDirectory } from './temporary-directory.js';

const at = temporaryDirectory();

const failure = (code: string) => Object.assign(new Error(`${code}: as the system says`), { code });

describe('file errors', () => {
  it.each([
    ['ENOSPC', 'DISK_FULL', 'no space is left on the disk; free some'],
    ['EDQUOT', 'DISK_FULL', 'quota'],
    ['EFBIG', 'DISK_FULL', 'use smaller shards'],
    ['EACCES', 'FILE_PERMISSION', 'permission denied; check the owner and mode'],
    ['EROFS', 'FILE_PERMISSION', 'read-only'],
    ['EIO', 'FILE_IO', 'as the system says'],
  ])('%s reads %s', (code, name, text) => {
    const cause = failure(code);
    const error = fileError(cause, 'write', '/x') as LowbitError;
    expect(error).toBeInstanceOf(LowbitError);
    expect([error.code, error.cause]).toEqual([name, cause]);
    expect(error.message).toContain('/x: could not write: ');
    expect(error.message).toContain(text);
  });

  it('leaves other errors alone', () => {
    for (const error of [new Error('x'), new LowbitError('A', 'b'), undefined, failure('ERR_INVALID_ARG_TYPE')])
      expect(fileError(error, 'read', '/x')).toBe(error);
  });

  it('a disk that fills up midway leaves nothing behind', async () => {
    const full = writeFileAtomically(at('d', 'x'), async (sink) => {
      await sink(new Uint8Array(100_000));
      throw failure('ENOSPC');
    });
    await expect(full).rejects.toThrow(/^DISK_FULL: .*x: could not write: no space is left/);
    expect(await readdir(at('d'))).toEqual([]);
    const together = writeFilesTogether(at('d'), [], async (staging) => {
      await writeFile(`${staging}/a`, 'whole');
      throw failure('ENOSPC');
    });
    await expect(together).rejects.toThrow(/^DISK_FULL: .*d: could not write/);
    expect(await readdir(at('d'))).toEqual([]);
  });

  it.skipIf(process.getuid?.() === 0 || process.platform === 'win32')('a directory that may not be written is named', async () => {
    await mkdir(at('d'));
    await chmod(at('d'), 0o500);
    await expect(writeFileAtomically(at('d', 'x'), async () => {})).rejects.toThrow(
      /^FILE_PERMISSION: .*x: could not write: permission denied/,
    );
  });

  it('directories, devices and short files are no model files', async () => {
    await expect(openSafetensors(at())).rejects.toThrow(/^FILE_KIND/);
    await expect(readSmallFile('/dev/null')).rejects.toThrow(/^FILE_(KIND|MISSING)/);
    await writeFile(at('x'), 'abc');
    await expect(withFile(at('x'), (handle) => readRange(handle, at('x'), 1, 5))).rejects.toThrow(
      /^FILE_TRUNCATED: .*x: ends at byte 3 of the 6 expected/,
    );
    await symlink(at('loop'), at('loop'));
    await expect(readSmallFile(at('loop'))).rejects.toThrow(/^FILE_IO: .*loop: could not read: ELOOP/);
  });
});
