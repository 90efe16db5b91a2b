// A recipe as a TypeScript module: eight bits for attention, two elsewhere.
import { rtn } from '@lowbit/rtn';

const groupSize: number = 16;

export default [
  rtn({ bits: 8, groupSize, targets: ['**.self_attn.*'] }),
  rtn({ bits: 2, groupSize, targets: ['**.mlp.*'], overrides: { '**.down_proj': { bits: 4 } } }),
];
