// What a plan names on the hub, by the commits that it is now: a plan must mean the same tomorrow, and in another process.
import { type HubKind, type HubOptions, isHubReference, pinReference } from '@lowbit/hub';
import type { PlanDraft } from './plan.js';
import type { TextSource } from './texts.js';

/** The draft with a commit in each reference to the hub. @throws what `pinReference` throws. */
export async function pinPlan(draft: PlanDraft, hub?: HubOptions): Promise<PlanDraft> {
  const { models, calibration, heldOut, task, tasks } = draft;
  const pinned = async <T>(reference: T, kind: HubKind): Promise<T | string> =>
    typeof reference === 'string' && isHubReference(reference) ? pinReference(reference, kind, hub) : reference;
  const ofText = async <T extends { readonly source?: TextSource | undefined }>(text: T): Promise<T> =>
    text.source?.kind === 'file' ? { ...text, source: { ...text.source, path: await pinned(text.source.path, 'dataset') } } : text;
  return {
    ...draft,
    models: await Promise.all(models.map((reference) => pinned(reference, 'model'))),
    calibration: await ofText(calibration),
    heldOut: await ofText(heldOut),
    ...(task && { task: { ...task, source: await pinned(task.source, 'dataset'), dev: await pinned(task.dev, 'dataset') } }),
    ...(tasks && { tasks: { ...tasks, data: await pinned(tasks.data, 'dataset') } }),
  };
}
