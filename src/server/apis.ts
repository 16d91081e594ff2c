import type { Api } from './protocol/api.js';
import { coordinatorApis } from './coordinator-apis.js';
import { alterConfigs } from './requests/alter-configs.js';
import { apiVersions } from './requests/api-versions.js';
import { createPartitions } from './requests/create-partitions.js';
import { createTopics } from './requests/create-topics.js';
import { deleteRecords } from './requests/delete-records.js';
import { deleteTopics } from './requests/delete-topics.js';
import { describeCluster } from './requests/describe-cluster.js';
import { describeConfigs } from './requests/describe-configs.js';
import { describeLogDirs } from './requests/describe-log-dirs.js';
import { describeProducers } from './requests/describe-producers.js';
import { describeTopicPartitions } from './requests/describe-topic-partitions.js';
import { fetch } from './requests/fetch.js';
import { incrementalAlterConfigs } from './requests/incremental-alter-configs.js';
import { listOffsets } from './requests/list-offsets.js';
import { metadata } from './requests/metadata.js';
import { offsetForLeaderEpoch } from './requests/offset-for-leader-epoch.js';
import { produce } from './requests/produce.js';

/** All that is offered. */
const offered: readonly Api[] = [
  alterConfigs,
  apiVersions,
  createPartitions,
  createTopics,
  deleteRecords,
  deleteTopics,
  describeCluster,
  describeConfigs,
  describeLogDirs,
  describeProducers,
  describeTopicPartitions,
  fetch,
  incrementalAlterConfigs,
  listOffsets,
  metadata,
  offsetForLeaderEpoch,
  produce,
  ...coordinatorApis,
];

export const apis: ReadonlyMap<number, Api> = new Map(
  offered.toSorted((one, other) => one.key - other.key).map((api) => [api.key, api]),
);
