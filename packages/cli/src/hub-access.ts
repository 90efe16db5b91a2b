// How commands come by models and datasets of the hub: from the environment and --offline, with a bar for what is being fetched.
import { type HubOptions, type HubSettings, hubSettings } from '@lowbit/hub';
import { createReporter, type Reporter } from './reporter.js';
import type { Terminal } from './terminal.js';

/** Options of every command that decide it. */
interface HubArguments {
  readonly offline?: boolean;
  readonly quiet?: boolean;
}

export interface HubAccess {
  readonly options: HubOptions;
  /** Sets it up for a command. */
  begin(options: HubArguments): void;
  /** Clears the bar. */
  end(): void;
}

const MIB = 2 ** 20;

export function hubAccess(terminal: Terminal, signal: AbortSignal): HubAccess {
  let given: HubArguments = {};
  let reporter: Reporter | undefined;
  const end = (): void => reporter?.end();
  return {
    options: {
      signal,
      // Read when something of the hub is asked for: what is wrong with it concerns no other command.
      get settings(): HubSettings {
        const settings = hubSettings();
        return { ...settings, isOffline: settings.isOffline || given.offline === true };
      },
      onProgress({ repository, path, done, total }) {
        reporter ??= createReporter(terminal, { isQuiet: given.quiet === true });
        reporter.progress(`${repository} (MiB)`, path, Math.floor(done / MIB), Math.floor(total / MIB));
        if (done === total) end();
      },
    },
    begin(options) {
      given = options;
    },
    end,
  };
}
