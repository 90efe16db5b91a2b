// The one table of operators. An operator without a shape rule, a gradient entry and a reference kernel does not compile.
import { attentionOps, maskOps } from './attention.js';
import type { CompositeDefinition, CompositeName, OpName, PrimitiveDefinition, PrimitiveName } from './definition.js';
import { binaryOps, comparisonOps, selectionOps, unaryOps } from './elementwise.js';
import { integerOps } from './integer.js';
import { lossOps } from './loss.js';
import { matmulOps } from './matmul.js';
import { movementOps } from './movement.js';
import { normalizationOps } from './normalization.js';
import { packedOps } from './packed.js';
import { quantizedOps } from './quantized.js';
import { reductionOps } from './reduce.js';

export const primitives: Readonly<Record<PrimitiveName, PrimitiveDefinition>> = {
  ...unaryOps,
  ...binaryOps,
  ...comparisonOps,
  ...selectionOps,
  ...reductionOps,
  ...movementOps,
  ...matmulOps,
  ...maskOps,
};

export const composites: Readonly<Record<CompositeName, CompositeDefinition>> = {
  ...normalizationOps,
  ...attentionOps,
  ...lossOps,
  ...quantizedOps,
  ...packedOps,
  ...integerOps,
};

export const ops: Readonly<Record<OpName, PrimitiveDefinition | CompositeDefinition>> = { ...primitives, ...composites };

export type { OpName } from './definition.js';
