// A WebGPU device for tests on machines without a GPU: SwiftShader, the software Vulkan driver that Chromium brings along.
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Where packages of Chromium and Chrome put it on Linux. */
const FOLDERS = ['/usr/lib/chromium', '/usr/lib/chromium-browser', '/opt/google/chrome'];

const folder = FOLDERS.find((candidate) => existsSync(join(candidate, 'vk_swiftshader_icd.json')));

/**
 * Environment in which a process finds SwiftShader as its GPU; undefined where there is none. It must be set before the process starts, since
 * the dynamic linker reads it: vitest.config.ts does for test files named *.webgpu.test.ts.
 */
export const swiftShaderEnvironment: Readonly<Record<string, string>> | undefined = folder
  ? {
      VK_ICD_FILENAMES: join(folder, 'vk_swiftshader_icd.json'),
      // The Vulkan loader, which Chromium brings along as well, and a folder that drivers may write to.
      LD_LIBRARY_PATH: [folder, process.env.LD_LIBRARY_PATH].filter(Boolean).join(':'),
      XDG_RUNTIME_DIR: tmpdir(),
    }
  : undefined;

/** Ends the name of a suite that is skipped. */
export const withoutSwiftShader = folder ? '' : ` (skipped: no SwiftShader, which Debian's chromium package has, in ${FOLDERS.join(', ')})`;
