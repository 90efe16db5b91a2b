// @lowbit/testkit: what backends and methods must do, as vitest suites, and a toy model to try them on.

export { type DescribeBackendOptions, describeBackend, type Float64Oracle } from './describe-backend.js';
export { type DescribeMethodOptions, describeMethod, type QuantizeFunction } from './describe-method.js';
export { createToyModel, createToyTokens, type ToyModelOptions, type ToyTokensOptions } from './toy-model.js';
