import type { Clock, Timer } from './clock.js';
import { OttlaError, asStorageError } from './errors.js';
import type { Partition } from './partition.js';
import type { DecisionRow } from './storage/meta-store.js';
import { isSameProducer, type Holder, type PendingMarker } from './transaction-holder.js';

/** How soon a marker that could not be written is tried again. */
const retryMs = 1000;
/** There is one coordinator, which never moves. */
const coordinatorEpoch = 0;

export interface MarkersOptions {
  readonly clock: Clock;
  /** undefined: it was deleted. */
  readonly partition: (topicId: string, partition: number) => Partition | undefined;
  /** Called when a transaction has ended. */
  readonly ended: () => void;
}

/** Writes the ends of transactions into the logs: what cannot be written now is written later. */
export class TransactionMarkers {
  readonly #options: MarkersOptions;
  /** Who has some to write still. */
  readonly #owing = new Set<Holder>();
  #retry: Timer | null = null;

  constructor(options: MarkersOptions) {
    this.#options = options;
  }

  /** Writes what the holder has pending. Never rejects. */
  async write(holder: Holder): Promise<void> {
    const failed: PendingMarker[] = [];
    await Promise.all(
      holder.pending.map(async (marker) => {
        const partition = this.#options.partition(marker.topicId, marker.partition);
        try {
          if (partition !== undefined) await writeMarker(holder, partition, marker);
        } catch (error) {
          if (error instanceof OttlaError && error.code === 'UNKNOWN_TOPIC_OR_PARTITION') return;
          failed.push(marker);
          asStorageError(holder.transactionalId, error);
        }
      }),
    );
    holder.pending = failed;
    if (failed.length === 0) this.#owing.delete(holder);
    else {
      this.#owing.add(holder);
      this.#retry ??= this.#options.clock.after(retryMs, () => void this.writeAll());
    }
  }

  /** Tries again to write what could not be written: a partition takes records again. Never rejects. */
  async writeAll(): Promise<void> {
    this.stop();
    for (const holder of this.#owing) {
      if (holder.state === 'ending') continue;
      const { state } = holder;
      holder.state = 'ending';
      holder.ending = this.write(holder);
      await holder.ending;
      holder.state = state;
      if (holder.pending.length === 0) this.#options.ended();
    }
  }

  /**
   * At open: commits what was decided, where that is not done.
   * @returns what was done, in sentences
   */
  async rollForward(
    holder: Holder,
    { topicId, partition: index, endOffset }: DecisionRow['partitions'][number],
  ): Promise<string[]> {
    const partition = this.#options.partition(topicId, index);
    if (partition === undefined) return [];
    partition.open();
    const { producerId, producerEpoch } = holder;
    const of = { producerId, topicId, partition: index, isCommit: true, endOffset };
    let marker: PendingMarker = { ...of, producerEpoch };
    try {
      const isShort = partition.logEndOffset < endOffset;
      const firstOffset = partition.producers.openTransactions.get(producerId) ?? Infinity;
      if (!isShort && partition.failure === null && firstOffset >= endOffset) return [];
      marker = { ...of, producerEpoch: Math.max(0, partition.producers.epochOf(producerId)) };
      await writeMarker(holder, partition, marker);
    } catch (error) {
      asStorageError(partition.name, error);
      holder.pending.push(marker);
      this.#owing.add(holder);
      return [];
    }
    return [
      `${partition.name}: committed a transaction of ${holder.transactionalId}, which was decided before the process ended.`,
    ];
  }

  /** At open: aborts what is open in a log, but for those whose transactions outlived the process. */
  async abortOpen(partition: Partition, remote: readonly Holder[]): Promise<string[]> {
    partition.open();
    partition.check();
    if (partition.failure !== null) return [];
    const report: string[] = [];
    for (const [producerId, firstOffset] of partition.producers.openTransactions) {
      const producerEpoch = partition.producers.epochOf(producerId);
      const identity = { producerId, producerEpoch };
      const isOf = (holder: Holder): boolean =>
        isSameProducer(identity, holder) && holder.partitions.has(partition);
      if (remote.some(isOf)) continue;
      await partition.appendMarker({ ...identity, isCommit: false, coordinatorEpoch });
      report.push(
        `${partition.name}: aborted the transaction of producer ${producerId} that was open from offset ${firstOffset} on.`,
      );
    }
    return report;
  }

  /** Until something cannot be written again. */
  stop(): void {
    this.#retry?.cancel();
    this.#retry = null;
  }
}

async function writeMarker(
  { transactionalId }: Holder,
  partition: Partition,
  marker: PendingMarker,
): Promise<void> {
  const { logEndOffset, name } = partition;
  if (logEndOffset < marker.endOffset) {
    partition.fail(
      new OttlaError(
        'CORRUPT_MESSAGE',
        `${name} ends at offset ${logEndOffset}: a transaction of ${transactionalId} was committed up to ${marker.endOffset}`,
      ),
    );
  }
  await partition.appendMarker({ ...marker, coordinatorEpoch });
}
