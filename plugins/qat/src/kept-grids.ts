// Options of a grid that quantized Linears do not follow: they keep the one that they have.
import type { Block } from '@lowbit/core';
import { QuantizedLinear } from '@lowbit/quant';
import type { QatOptions } from './options.js';
import { trainedPart } from './parts.js';

type GridOptions = Pick<QatOptions, 'bits' | 'groupSize' | 'zero' | 'scaleDtype'>;
type AskedOptions = GridOptions & Pick<QatOptions, 'clip' | 'quantizer'>;

/**
 * A warning where quantized Linears have another grid than was asked for; undefined where there are none.
 * @param defaults of the step's preset: what equals them counts as not asked for.
 */
export function keptGrids(
  blocks: readonly Block[],
  optionsFor: (path: string) => AskedOptions | undefined,
  defaults: AskedOptions,
): string | undefined {
  const passedOver = new Set<string>();
  const paths: string[] = [];
  for (const block of blocks) {
    for (const [name, linear] of Object.entries(block.linears)) {
      const path = `${block.path}.${name}`;
      const options = optionsFor(path);
      const part = trainedPart(linear, path).linear;
      if (!options || !(part instanceof QuantizedLinear)) continue;
      const { bits, groupSize, zeroKind: zero, scaleDtype } = part.weight;
      const own: GridOptions = {
        bits,
        groupSize: options.groupSize === -1 && groupSize === part.inFeatures ? -1 : groupSize,
        zero,
        scaleDtype,
      };
      const others: (keyof AskedOptions)[] = optionNames.filter((name) => options[name] !== defaults[name] && options[name] !== own[name]);
      // Ranges that are recomputed at every step are laid as is asked for.
      if (options.clip !== defaults.clip && options.quantizer !== 'minmax') others.push('clip');
      for (const option of others) passedOver.add(`${option} ${options[option]}`);
      if (others.length > 0) paths.push(path);
    }
  }
  if (paths.length === 0) return undefined;
  const which = paths.length === 1 ? paths[0] : `${paths[0]} and ${paths.length - 1} more`;
  return `${[...passedOver].join(', ')}: for dense Linears alone; ${which} keep the grid that they have. Quantize them so before this step`;
}

const optionNames = ['bits', 'groupSize', 'zero', 'scaleDtype'] as const;
