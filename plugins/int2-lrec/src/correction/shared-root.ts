// One root for all Linears of a group: they read the same inputs, so the runner hands them the same statistic.
import type { Backend, Tensor } from '@lowbit/core';
import { type ClosedFormName, closedForms, type InputRoot } from '@lowbit/quant';

/** What a root depends on. */
interface RootRequest {
  readonly backend: Backend;
  readonly form: ClosedFormName;
  /** Leaves by name, as the form's `statistics` names them. */
  readonly stats: Readonly<Record<string, Tensor>>;
  readonly dampening: number;
}

interface Entry extends RootRequest {
  readonly root: Promise<InputRoot>;
}

/** The last root of each statistic, for as long as somebody holds the statistic. */
const latest = new WeakMap<Tensor, Entry>();

/** @throws CHOLESKY_INPUT, CHOLESKY_FAILED or ROOT_INPUT where the statistic is not finite. */
export async function sharedRoot(request: RootRequest): Promise<InputRoot> {
  const { backend, form, stats, dampening } = request;
  const [leaf] = Object.values(stats);
  const known = leaf && latest.get(leaf);
  if (known && known.backend === backend && known.form === form && known.dampening === dampening) return known.root;
  const root = closedForms[form].root(backend, stats, dampening);
  if (leaf) latest.set(leaf, { ...request, root });
  return root;
}
