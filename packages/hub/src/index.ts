// @lowbit/hub: models and datasets of the Hugging Face hub, by reference, through a local cache.
export type { FileHeader } from './header.js';
export { fetchModel, type HubModel, type ModelOptions } from './model.js';
export { type HubKind, hubModelName, isHubReference } from './reference.js';
export { type HubSettings, hubSettings } from './settings.js';
export { type HubOptions, type HubProgress, type HubSource, openSource, pinReference } from './source.js';
