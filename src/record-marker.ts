import { RecordReader } from './record-reader.js';
import type { BatchHeader } from './record.js';
import { encodeBatch } from './record-writer.js';

/**
 * The end of a transaction in one partition: a control batch with one record. Key: version 0 and type as
 * int16; value: version 0 as int16 and the coordinator's epoch as int32 (Kafka's ControlRecordType and
 * EndTransactionMarker, KIP-98).
 */
export interface Marker {
  readonly isCommit: boolean;
  readonly coordinatorEpoch: number;
}

const abort = 0;
const commit = 1;

/** The bytes of a marker's batch, for the log to stamp. */
export function encodeMarker(
  marker: Marker & {
    readonly producerId: bigint;
    readonly producerEpoch: number;
    readonly timestamp: number;
  },
): Buffer {
  const { producerId, producerEpoch, timestamp, isCommit, coordinatorEpoch } = marker;
  const key = Buffer.alloc(4);
  key.writeInt16BE(isCommit ? commit : abort, 2);
  const value = Buffer.alloc(6);
  value.writeInt32BE(coordinatorEpoch, 2);
  return encodeBatch({
    baseOffset: 0,
    leaderEpoch: -1,
    producerId,
    producerEpoch,
    isTransactional: true,
    isControl: true,
    records: [{ offset: 0, timestamp, key, value }],
  });
}

/** The marker in a control batch; null for a control record of another kind. @throws INVALID_RECORD */
export function readMarker(
  bytes: Uint8Array,
  position: number,
  header: BatchHeader,
): Marker | null {
  const reader = new RecordReader();
  reader.open(bytes, position, header);
  if (!reader.next()) return null;
  const key = reader.key(false);
  const value = reader.value(false);
  if (key === null || key.length < 4 || value === null || value.length < 6) return null;
  const type = key.readInt16BE(2);
  if (type !== abort && type !== commit) return null;
  return { isCommit: type === commit, coordinatorEpoch: value.readInt32BE(2) };
}
