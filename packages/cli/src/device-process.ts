// Run as a process by lowbit devices: tries one backend. What native libraries print and crash with stays in it.
import { matmulRate, openBackend, serveTasks } from '@lowbit/bench';
import type { DeviceFound, DeviceWork } from './commands/devices.js';

serveTasks<DeviceWork, DeviceFound>({
  async run({ backend, seconds }) {
    const opened = await openBackend({ backend });
    try {
      const { name, fingerprint, chosen } = opened;
      const rate = seconds === undefined ? undefined : await matmulRate(opened, { seconds });
      return { name, fingerprint, chosen, rate };
    } finally {
      await opened.dispose();
    }
  },
});
