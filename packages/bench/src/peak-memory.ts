// Largest resident memory of a stretch of work.
import { readFileSync, writeFileSync } from 'node:fs';

const KIB_PER_MIB = 1024;

/**
 * Starts measuring; the returned function gives the peak since then in MiB.
 * Linux can forget the peak of a process (proc(5), clear_refs); elsewhere the figure is the peak since the process began.
 */
export function measurePeakMemory(): () => number {
  const isReset = resetPeak();
  return () => {
    const kib = isReset ? (readPeak() ?? process.resourceUsage().maxRSS) : process.resourceUsage().maxRSS;
    return Math.round(kib / KIB_PER_MIB);
  };
}

function resetPeak(): boolean {
  try {
    writeFileSync('/proc/self/clear_refs', '5');
    return readPeak() !== undefined;
  } catch {
    return false;
  }
}

/** VmHWM, KiB. */
function readPeak(): number | undefined {
  try {
    const match = /^VmHWM:\s*(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'));
    return match ? Number(match[1]) : undefined;
  } catch {
    return undefined;
  }
}
