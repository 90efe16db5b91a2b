// decoupleQ (arXiv 2404.12759): integer and floating-point parts of a weight optimised in turn, then block by block.
export { type DecoupleqInput, type DecoupleqOptions, decoupleqOptions } from './options.js';
