import type { Api } from './protocol/api.js';
import { coordinatorApis } from './coordinator-apis.js';
import { apiVersions } from './requests/api-versions.js';
import { metadata } from './requests/metadata.js';

/** All that is offered. */
const offered: readonly Api[] = [apiVersions, metadata, ...coordinatorApis];

export const apis: ReadonlyMap<number, Api> = new Map(
  offered.toSorted((one, other) => one.key - other.key).map((api) => [api.key, api]),
);
