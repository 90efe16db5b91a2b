// @lowbit/hub: models and datasets of the Hugging Face hub, by reference, through a local cache.
export { formatHubReference, type HubKind, type HubReference, isHubReference, parseHubReference } from './reference.js';
