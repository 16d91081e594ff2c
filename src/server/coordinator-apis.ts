import type { Api } from './protocol/api.js';
import { addOffsetsToTxn } from './requests/add-offsets-to-txn.js';
import { addPartitionsToTxn } from './requests/add-partitions-to-txn.js';
import { consumerGroupDescribe } from './requests/consumer-group-describe.js';
import { consumerGroupHeartbeat } from './requests/consumer-group-heartbeat.js';
import { deleteGroups } from './requests/delete-groups.js';
import { describeGroups } from './requests/describe-groups.js';
import { describeTransactions } from './requests/describe-transactions.js';
import { endTxn } from './requests/end-txn.js';
import { findCoordinator } from './requests/find-coordinator.js';
import { heartbeat } from './requests/heartbeat.js';
import { initProducerId } from './requests/init-producer-id.js';
import { joinGroup } from './requests/join-group.js';
import { leaveGroup } from './requests/leave-group.js';
import { listGroups } from './requests/list-groups.js';
import { listTransactions } from './requests/list-transactions.js';
import { offsetCommit } from './requests/offset-commit.js';
import { offsetDelete } from './requests/offset-delete.js';
import { offsetFetch } from './requests/offset-fetch.js';
import { saslAuthenticate } from './requests/sasl-authenticate.js';
import { saslHandshake } from './requests/sasl-handshake.js';
import { syncGroup } from './requests/sync-group.js';
import { txnOffsetCommit } from './requests/txn-offset-commit.js';

/** Those of groups and transactions, and of who may ask. */
export const coordinatorApis: readonly Api[] = [
  findCoordinator,
  joinGroup,
  syncGroup,
  heartbeat,
  leaveGroup,
  consumerGroupHeartbeat,
  consumerGroupDescribe,
  offsetCommit,
  offsetFetch,
  offsetDelete,
  describeGroups,
  listGroups,
  deleteGroups,
  initProducerId,
  addPartitionsToTxn,
  addOffsetsToTxn,
  txnOffsetCommit,
  endTxn,
  describeTransactions,
  listTransactions,
  saslHandshake,
  saslAuthenticate,
];
