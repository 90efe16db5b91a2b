// What `rotate` and `quad` need, told before any weight is read: a model's shapes, sizes to rotate, and whether there must be data.
import type { Model } from '@lowbit/core';
import { planHadamard } from '@lowbit/linalg';
import { checkBasis } from './basis/basis.js';
import { requireRotatable } from './fold/requirements.js';
import { checkRank, type QuadOptions } from './options.js';

/** Sizes that rotations of a model have; undefined where nothing is rotated. */
export interface RotationSizes {
  /** Of the residual stream, or of what is left of it beside the outlier directions. */
  readonly residual: number;
  readonly withinHeads: number;
  readonly acrossHeads: number | undefined;
  /** Of the inputs of what writes to the stream beside the heads. */
  readonly hidden: number | undefined;
}

type SizeOptions = Pick<QuadOptions, 'rank' | 'layout' | 'onlineRotation'>;

/** Sizes of all blocks are equal in every family; those of the first decide. */
export function rotationSizes({ config, blocks: [block] }: Model, { rank, layout, onlineRotation }: SizeOptions): RotationSizes {
  const { headCount, headDim, output } = block.attention;
  const hidden = block.groups.flatMap(({ linears, writesResidual }) => (writesResidual ? linears.filter((name) => name !== output) : []));
  return {
    residual: layout === 'compact' ? config.hiddenSize - rank : config.hiddenSize,
    withinHeads: headDim,
    acrossHeads: onlineRotation ? headCount : undefined,
    hidden: onlineRotation && hidden.length > 0 ? block.linears[hidden[0]].inFeatures : undefined,
  };
}

/** Whether there are outlier directions that come from activations. */
export function readsActivations({ rank, basis }: Pick<QuadOptions, 'rank' | 'basis'>): boolean {
  return rank > 0 && basis !== 'random';
}

/** @throws as `requireRotatable`; RANK, BASIS_SIZE, and HADAMARD_SIZE for fallback 'error'. */
export function checkModel(model: Model, options: QuadOptions): void {
  requireRotatable(model);
  checkRank(options, model.config.hiddenSize);
  if (options.rank > 0) checkBasis(options.basis, model.config.hiddenSize);
  if (options.fallback !== 'error') return;
  const { residual, ...inner } = rotationSizes(model, options);
  const sizes = [...Object.values(inner), options.rotation === 'hadamard' ? residual : undefined];
  for (const size of sizes) if (size !== undefined) planHadamard(size);
}
