// New adapters for Linears that have none.
import { createRng, type Linear, type Model, tensor } from '@lowbit/core';
import { LowRankLinear } from '@lowbit/quant';

/** An adapter to attach. */
export interface NewAdapter {
  /** Of the Linear. */
  readonly path: string;
  readonly rank: number;
  readonly alpha: number;
}

/** The model with new adapters outermost: A uniform in ±1/√inputs, drawn below the seed by path, B zero, so that it computes the same. */
export function withAdapters(model: Model, adapters: readonly NewAdapter[], runSeed: number): Model {
  const byPath = new Map(adapters.map((adapter) => [adapter.path, adapter]));
  const blocks = model.blocks.map((block) => {
    const linears: Record<string, Linear> = {};
    for (const [name, linear] of Object.entries(block.linears)) {
      const adapter = byPath.get(`${block.path}.${name}`);
      if (adapter) linears[name] = newAdapter(linear, adapter, runSeed);
    }
    return block.with({ linears });
  });
  return model.with({ blocks });
}

function newAdapter(base: Linear, { path, rank, alpha }: NewAdapter, runSeed: number): LowRankLinear {
  const { inFeatures, outFeatures } = base;
  const uniform = createRng(runSeed)
    .at('adapter', path)
    .uniform(rank * inFeatures);
  return new LowRankLinear({
    base,
    down: tensor(
      uniform.map((x) => (2 * x - 1) / Math.sqrt(inFeatures)),
      [rank, inFeatures],
    ),
    up: tensor(new Float32Array(outFeatures * rank), [outFeatures, rank]),
    scaling: alpha / rank,
  });
}
