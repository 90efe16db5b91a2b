// What a model must be for its residual stream to be rotated, checked before any weight is read.
import { type Block, LowbitError, type Model, type Norm } from '@lowbit/core';

/**
 * @throws NORM_KIND for a family with LayerNorms, LINEAR_NOT_DENSE for a layer that is quantized or wrapped, MODEL_GROUPS for a group that
 *   is not between the stream and an activation, MODEL_POSITIONS and MODEL_ATTENTION for what no family with RMS norms has.
 */
export function requireRotatable(model: Model): void {
  const { config, layout } = model;
  for (const block of model.blocks) {
    for (const [name, norm] of Object.entries(block.norms)) requireRms(norm, `${block.path}.${name}`, config.architecture);
    for (const [name, { kind }] of Object.entries(block.linears)) requireFullPrecision({ kind, path: `${block.path}.${name}` });
    requireGroups(block);
    requireOwnValues(block);
  }
  requireRms(model.norm, layout.norm, config.architecture);
  requireFullPrecision({ kind: model.head.kind, path: layout.head });
  if (model.embedding.positions) {
    throw new LowbitError(
      'MODEL_POSITIONS',
      `${layout.embedding.positions}: learned positions are added to the residual stream and would have to be rotated with it, which is not done; use a model with rotary positions`,
    );
  }
}

/** @throws LINEAR_NOT_DENSE naming the path. */
export function requireFullPrecision({ kind, path }: { readonly kind: string; readonly path: string }): void {
  if (kind === 'dense') return;
  throw new LowbitError(
    'LINEAR_NOT_DENSE',
    `${path}: is already '${kind}', and a rotation changes every weight of a model whatever the targets; put the step before those that quantize, once`,
  );
}

function requireRms({ kind }: Norm, path: string, family: string): void {
  if (kind === 'rms') return;
  throw new LowbitError(
    'NORM_KIND',
    `${path}: is a LayerNorm, as all models of the family '${family}' have; it subtracts the mean over the channels, which a rotation of them does not keep; use a model with RMS norms, or round activations without a rotation`,
  );
}

function requireOwnValues({ path, attention: { query, key, value } }: Block): void {
  if (value !== query && value !== key) return;
  throw new LowbitError(
    'MODEL_ATTENTION',
    `${path}.${value}: makes queries or keys beside the values, which alone are rotated within their heads; use a model with a Linear for each`,
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
