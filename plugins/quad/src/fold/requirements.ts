// What a model must be for its residual stream to be rotated, checked before any weight is read.
import { type Block, LowbitError, type Model, type Norm } from '@lowbit/core';

/**
 * @throws LINEAR_NOT_DENSE for a layer that is quantized or wrapped, NORM_KIND for a LayerNorm, MODEL_GROUPS for a group that is not
 *   between the stream and an activation.
 */
export function requireRotatable(model: Model): void {
  for (const block of model.blocks) {
    for (const [name, { kind }] of Object.entries(block.linears)) requireFullPrecision({ kind, path: `${block.path}.${name}` });
    requireGroups(block);
    for (const [name, norm] of Object.entries(block.norms)) requireRms(norm, `${block.path}.${name}`);
  }
  requireRms(model.norm, 'model.norm');
  requireFullPrecision({ kind: model.head.kind, path: 'lm_head' });
}

/** @throws LINEAR_NOT_DENSE naming the path. */
export function requireFullPrecision({ kind, path }: { readonly kind: string; readonly path: string }): void {
  if (kind === 'dense') return;
  throw new LowbitError(
    'LINEAR_NOT_DENSE',
    `${path}: is already '${kind}', and a rotation changes every weight of a model whatever the targets; put the step before those that quantize, once`,
  );
}

function requireRms({ kind }: Norm, path: string): void {
  if (kind === 'rms') return;
  throw new LowbitError(
    'NORM_KIND',
    `${path}: is a LayerNorm, as GPT-2 and OPT have; it subtracts the mean over the channels, which a rotation of them does not keep; use a model with RMS norms, or round activations without a rotation`,
  );
}

function requireGroups({ path, groups }: Block): void {
  for (const { name, reads, writesResidual } of groups) {
    if ('norm' in reads !== writesResidual) continue;
    throw new LowbitError(
      'MODEL_GROUPS',
      `${path}: group '${name}' ${writesResidual ? 'both reads and writes' : 'neither reads nor writes'} the residual stream; a rotation has to know what the group does with it`,
    );
  }
}
