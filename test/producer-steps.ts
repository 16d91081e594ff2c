import { expect } from 'vitest';
import type { OttlaError } from '../src/errors.js';
import type { Partition } from '../src/partition.js';
import { encodeMarker } from '../src/record-marker.js';
import { Machine, append } from './machine.js';
import { numberedBatch, type Numbering } from './numbered.js';

/** A step of the vectors in producer-state.json. */
interface Step extends Partial<Omit<Numbering, 'producerId'>> {
  readonly append: 'plain' | 'idempotent' | 'transactional' | 'commit-marker' | 'abort-marker';
  readonly producerId?: number;
  readonly epoch?: number;
  readonly records?: number;
  readonly coordinatorEpoch?: number;
  readonly result: 'appended' | 'duplicate' | 'refused';
  readonly error?: string;
  readonly firstOffset?: number;
  readonly lastOffset?: number;
  readonly logEndOffset: number;
  readonly lastStableOffset: number;
}

const codes: Readonly<Record<string, string>> = {
  OutOfOrderSequenceException: 'OUT_OF_ORDER_SEQUENCE_NUMBER',
  InvalidProducerEpochException: 'INVALID_PRODUCER_EPOCH',
  InvalidTxnStateException: 'INVALID_TXN_STATE',
  TransactionCoordinatorFencedException: 'TRANSACTION_COORDINATOR_FENCED',
};

/** Long ago, but not a day: producers that are silent for longer are forgotten. */
const timestamp = new Machine().clock.now();

function bytesOf(step: Step): Buffer {
  const { producerId = -1, epoch = -1, records = 1, baseSequence = -1, coordinatorEpoch } = step;
  if (coordinatorEpoch !== undefined) {
    return encodeMarker({
      isCommit: step.append === 'commit-marker',
      coordinatorEpoch,
      producerId: BigInt(producerId),
      producerEpoch: epoch,
      timestamp,
    });
  }
  const values = Array.from({ length: records }, (_, i) => `${i}`);
  const isTransactional = step.append === 'transactional';
  const id = BigInt(producerId);
  return numberedBatch(values, {
    producerId: id,
    producerEpoch: epoch,
    baseSequence,
    isTransactional,
    timestamp,
  });
}

async function take(partition: Partition, step: Step): Promise<void> {
  const before = partition.logEndOffset;
  const outcome = await append(partition, bytesOf(step)).catch(
    ({ code, retriable }: OttlaError) => ({ code, retriable }),
  );
  const { result, error = '', firstOffset, logEndOffset, lastStableOffset } = step;
  const refused = { code: codes[error], retriable: false };
  expect(outcome).toEqual(result === 'refused' ? refused : firstOffset);
  expect(partition.logEndOffset > before).toBe(result === 'appended');
  expect(partition).toMatchObject({ logEndOffset, lastStableOffset });
}

/** Appends what the steps say, and expects of each what it says. */
export async function takeAll(partition: Partition, steps: readonly object[]): Promise<void> {
  for (const step of steps) await take(partition, step as Step);
}
