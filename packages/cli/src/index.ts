// @lowbit/cli: the lowbit command as a function, for programs that embed it.
export type { AnyMethod, Plugin } from './methods.js';
export { builtInMethods, builtInPlugins, findMethod, findPlugin } from './methods.js';
export { type CommandLine, runCommandLine } from './program.js';
export { readRecipe } from './recipe.js';
export { processTerminal, type Terminal } from './terminal.js';
