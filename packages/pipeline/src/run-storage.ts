// What a run keeps in its store: finished blocks with the activations that left them, and states of stages. Each entry says which run it is of.
import { type LinearKinds, LowbitError, type Store, type StoreEntry } from '@lowbit/core';
import { differences, type RunIdentity } from './run-identity.js';

/** Entry that says in words which run the store is of. */
const RUN = 'run';

/** Metadata of every other entry. */
interface Kept {
  /** Key of the run that it is of. */
  readonly run: string;
  readonly metadata: StoreEntry['metadata'];
}

/** Whether a store has something of a run, finished or not. */
export async function holdsRun(store: Store): Promise<boolean> {
  return (await store.get(RUN)) !== undefined;
}

export class RunStorage {
  /** Restorers of the Linears in finished blocks; without them an earlier run's blocks are not reused. */
  readonly kinds: LinearKinds | undefined;
  readonly #store: Store;
  readonly #identity: RunIdentity;
  #isNamed: boolean;
  #outdated = new Set<string>();

  private constructor(store: Store, identity: RunIdentity, kinds: LinearKinds | undefined, isNamed: boolean) {
    this.kinds = kinds;
    this.#store = store;
    this.#identity = identity;
    this.#isNamed = isNamed;
  }

  /** @throws STORE_RUN naming what differs when the store holds another run. */
  static async open(store: Store, identity: RunIdentity, kinds: LinearKinds | undefined): Promise<RunStorage> {
    const held = (await store.get(RUN))?.metadata as unknown as RunIdentity | undefined;
    if (held && held.key !== identity.key) {
      const changed = differences(held, identity).join('; ');
      const remedy = 'go on with what the run was begun with, or begin anew in another store';
      throw new LowbitError('STORE_RUN', `the store holds blocks of a run that differs: ${changed}; ${remedy}`);
    }
    return new RunStorage(store, identity, kinds, held !== undefined);
  }

  /** An entry of this run; one that another run has left is none. */
  async get(key: string): Promise<StoreEntry | undefined> {
    const entry = await this.#store.get(key);
    if (!entry) return undefined;
    const { run, metadata } = entry.metadata as unknown as Kept;
    return run === this.#identity.key ? { metadata, tensors: entry.tensors } : undefined;
  }

  /** A store is empty until there is something to go on from: what fails before that leaves nothing to be told apart from it. */
  async put(key: string, entry: StoreEntry): Promise<void> {
    if (!this.#isNamed) await this.#store.put(RUN, { metadata: { ...this.#identity }, tensors: {} });
    this.#isNamed = true;
    const kept: Kept = { run: this.#identity.key, metadata: entry.metadata };
    await this.#store.put(key, { metadata: { ...kept }, tensors: entry.tensors });
  }

  /** Writes an entry and gives it back as the store reads it. */
  async keep(key: string, entry: StoreEntry): Promise<StoreEntry> {
    await this.put(key, entry);
    const stored = await this.get(key);
    if (!stored) {
      const remedy = 'check the disk it lies on, and that no other run writes there';
      throw new LowbitError('STORE_ENTRY', `the store lost '${key}' right after it was written; ${remedy}`);
    }
    return stored;
  }

  /** An entry that is not needed once the next one has been committed. */
  outdate(key: string): void {
    this.#outdated.add(key);
  }

  /** Deletes what is outdated: call it when the entry that a resumed run goes on from has been written. */
  async sweep(): Promise<void> {
    for (const key of this.#outdated) await this.#store.delete(key);
    this.#outdated.clear();
  }
}
