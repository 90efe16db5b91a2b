// What a run keeps in its store: finished blocks with the activations that left them, and states of stages; of one run only.
import { type LinearKinds, LowbitError, type Store, type StoreEntry } from '@lowbit/core';
import { differences, type RunIdentity } from './run-identity.js';

/** Entry that says which run the others belong to. */
const RUN = 'run';

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

  get(key: string): Promise<StoreEntry | undefined> {
    return this.#store.get(key);
  }

  /** A store is empty until there is something to go on from: what fails before that leaves nothing to be told apart from it. */
  async put(key: string, entry: StoreEntry): Promise<void> {
    if (!this.#isNamed) await this.#store.put(RUN, { metadata: { ...this.#identity }, tensors: {} });
    this.#isNamed = true;
    await this.#store.put(key, entry);
  }

  /** Writes an entry and gives it back as the store reads it. */
  async keep(key: string, entry: StoreEntry): Promise<StoreEntry> {
    await this.put(key, entry);
    const stored = await this.#store.get(key);
    if (!stored) throw new LowbitError('STORE_ENTRY', `the store lost '${key}' right after it was written; check the disk it lies on`);
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
