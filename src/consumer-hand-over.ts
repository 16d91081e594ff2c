import type { Clock } from './clock.js';
import type { Commits, Progress } from './consumer-commits.js';
import type { Letter } from './consumer-letters.js';
import type { AppendSink, CommitPosition, Engine, Reader, TransactionalWriter } from './engine.js';
import { unknownTopic, type OttlaError } from './errors.js';
import { producerDefaults } from './options.js';
import { partitionForKey } from './partitioner.js';
import { sizeOf } from './record.js';
import type { RunProgress, Taken } from './run-progress.js';

/** Letters for records that are finished once the letters are there. */
export interface HandedOver {
  readonly topic: string;
  readonly letters: readonly Letter[];
  readonly progress: Progress;
  readonly records: RunProgress;
  readonly taken: readonly Taken[];
}

interface Waiting {
  readonly work: HandedOver;
  readonly settle: (isDone: boolean) => void;
  readonly fail: (error: unknown) => void;
}

/**
 * Writes letters in one transaction with the commit that passes the records they are for: after a crash a
 * record has its letter and does not come again, or has none and comes again. What comes while one transaction
 * is under way shares the next.
 */
export class HandOver {
  readonly #engine: Engine;
  readonly #clock: Clock;
  readonly #reader: Reader<unknown>;
  readonly #commits: Commits;
  readonly #hasGroup: boolean;
  #writer: TransactionalWriter | null = null;
  #waiting: Waiting[] = [];
  #working: Promise<void> | null = null;
  #isClosed = false;

  constructor(
    engine: Engine,
    clock: Clock,
    reader: Reader<unknown>,
    commits: Commits,
    hasGroup: boolean,
  ) {
    this.#engine = engine;
    this.#clock = clock;
    this.#reader = reader;
    this.#commits = commits;
    this.#hasGroup = hasGroup;
  }

  /**
   * Resolves once it is durable, and the records are finished. False: nothing was done, since the partition was
   * lost or sought meanwhile, or the consumer is being closed.
   * @throws UNKNOWN_TOPIC_OR_PARTITION, MESSAGE_TOO_LARGE, KAFKA_STORAGE_ERROR
   */
  add(work: HandedOver): Promise<boolean> {
    return new Promise((settle, fail) => {
      this.#waiting.push({ work, settle, fail });
      this.#working ??= this.#work().finally(() => (this.#working = null));
    });
  }

  /** Never rejects. */
  async #work(): Promise<void> {
    while (this.#waiting.length > 0) {
      await this.#commits.writeBy(async () => this.#transact(this.#waiting.splice(0)));
    }
  }

  async #transact(list: readonly Waiting[]): Promise<void> {
    const isValid = ({ work: { progress, records } }: Waiting): boolean =>
      !this.#isClosed && !progress.isLost && progress.beyond === records;
    for (let rest = list; ;) {
      const valid = rest.filter(isValid);
      for (const each of rest) if (!valid.includes(each)) each.settle(false);
      if (valid.length === 0) return;
      try {
        await this.#write(valid.map(({ work }) => work));
        for (const { settle } of valid) settle(true);
        return;
      } catch (error) {
        rest = valid;
        // Once more without those whose partition was lost meanwhile.
        if (!valid.every(isValid)) continue;
        for (const { fail } of valid) fail(error);
        return;
      }
    }
  }

  async #write(list: readonly HandedOver[]): Promise<void> {
    this.#writer ??= this.#engine.transactionalWriter(producerDefaults);
    const writer = this.#writer;
    const sink = new FirstFailure();
    try {
      await writer.begin();
      for (const { topic, letters } of list) {
        for (const letter of letters) await this.#send(writer, topic, letter, sink);
      }
      const commits = this.#hasGroup ? commitsOf(list) : [];
      if (commits.length > 0) writer.sendOffsets(this.#reader, commits.map(positionOf));
      await writer.commit();
      for (const { progress, offset, version } of commits) {
        progress.committed = offset;
        progress.beyondCommitted = version;
      }
    } catch (error) {
      this.#writer = null;
      // Which aborts it. What failed is told; that this comes later changes nothing of it.
      await writer.close().catch(() => undefined);
      throw sink.error ?? error;
    }
    for (const { records, taken } of list) for (const one of taken) records.finish(one);
  }

  /** @throws UNKNOWN_TOPIC_OR_PARTITION, MESSAGE_TOO_LARGE */
  async #send(
    writer: TransactionalWriter,
    name: string,
    letter: Letter,
    sink: AppendSink,
  ): Promise<void> {
    const record = { ...letter, timestamp: this.#clock.now() };
    for (;;) {
      const topic = this.#engine.topic(name);
      if (topic === undefined) throw unknownTopic(name, 'run: ');
      const { key } = record;
      const partition = key === null ? -1 : partitionForKey(key, topic.partitionCount);
      if (writer.append(topic, partition, record, sink) !== -1) return;
      await writer.room(sizeOf(record));
    }
  }

  /** What is not under way is not done any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#working;
    await this.#writer?.close();
  }
}

type OwnedPosition = CommitPosition & { readonly ownership: number };

interface Commit {
  readonly progress: Progress;
  readonly offset: number;
  readonly metadata: string;
  readonly version: number;
}

/** One for each partition, as far as it is finished with these. */
function commitsOf(list: readonly HandedOver[]): Commit[] {
  const byProgress = new Map<Progress, { records: RunProgress; taken: Taken[] }>();
  for (const { progress, records, taken } of list) {
    const known = byProgress.get(progress);
    if (known === undefined) byProgress.set(progress, { records, taken: [...taken] });
    else known.taken.push(...taken);
  }
  return [...byProgress].map(([progress, { records, taken }]) => ({
    progress,
    ...records.with(taken),
  }));
}

function positionOf({ progress, offset, metadata }: Commit): OwnedPosition {
  const { topic, partition, ownership } = progress;
  return { topic, partition, ownership, offset, metadata };
}

class FirstFailure implements AppendSink {
  error: OttlaError | null = null;

  acknowledged(): void {}

  failed(error: OttlaError): void {
    this.error ??= error;
  }
}
