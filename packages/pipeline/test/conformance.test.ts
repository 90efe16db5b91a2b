// The four small methods against the method contract: one for each stage.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { describeMethod } from '@lowbit/testkit';
import { quantize } from '../src/index.js';
import { adapted } from './methods/adapt.js';
import { testKinds as kinds } from './methods/linears.js';
import { refined } from './methods/refine.js';
import { rotate } from './methods/rotate.js';
import { nearest, searched } from './methods/round.js';

const common = { quantize, createBackend: createReferenceBackend, kinds };

describeMethod(rotate, common);
describeMethod(nearest, { ...common, options: { bits: 3 }, override: { bits: 5 } });
describeMethod(searched, { ...common, options: { bits: 3 }, override: { bits: 5 } });
describeMethod(refined, { ...common, options: { bits: 3, steps: 1 }, override: { bits: 5 } });
describeMethod(adapted, { ...common, options: { rank: 1, steps: 2 }, prepare: [nearest({ bits: 3 })] });
