// Low-rank corrections of quantized weights in closed form.
export { bestCorrection, type Correction, type CorrectionOptions } from './closed-form.js';
export { correctionOf, type LowRankFactors, zeroFactors } from './factors.js';
export { energyRoot, gramRoot, type InputRoot, identityRoot, magnitudeRoot, rootNorm } from './input-root.js';
export { type LoftqOptions, type LoftqResult, loftq, type PissaResult, pissa, type QuantizeDense } from './loftq.js';
export { type ClosedForm, type ClosedFormName, closedForms } from './methods.js';
