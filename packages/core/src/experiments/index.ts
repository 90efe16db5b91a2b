// @lowbit/core/experiments: what experiments of methods are written with.
export { type ComparedRows, type Comparison, claimOn, difference, evidenceOf, inEverySeed, verdictsOn } from './claims.js';
export { type Axes, logarithmic, means, type Panels, panels, type Specification } from './figures.js';
export { type PublishedFigure, publishedClaim } from './published.js';
export { ascends, combine, numberOf, rankCorrelation, type Sample, sampleOf, samplesOf, show, showSample, valuesOf } from './samples.js';
