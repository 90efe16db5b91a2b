// What the residual stream of a model looks like to QUAD, and its figures.
export {
  type ActivationSpectrum,
  activationSpectrum,
  checkSpectrumRank,
  defaultRank,
  type EnergyAtRank,
  type SpectrumOptions,
} from './activation-spectrum.js';
export { bandNames, bandsOver, type ChannelBands, channelBands } from './channel-bands.js';
export { bandRows, bandsFigure, energyFigure, energyRows } from './figures.js';
export { type InputBands, type InputBasis, inputBases } from './input-bands.js';
export { type StreamIsometries, streamIsometries } from './stream-isometries.js';
