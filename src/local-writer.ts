import type { Clock } from './clock.js';
import type { AppendSink, RawRecords, Writer, WriterMetrics, WriterOptions } from './engine.js';
import { Account } from './local-account.js';
import type { Accumulator } from './local-accumulator.js';
import { WriterStatistics } from './local-statistics.js';
import { sizeOf, type Bytes, type RecordHeaders } from './record.js';
import type { Topic, TopicInfo } from './topic.js';

export interface WriterEnvironment {
  readonly accumulator: Accumulator;
  readonly clock: Clock;
  readonly random: () => number;
  readonly closed: (writer: LocalWriter) => void;
}

/** One producer's way into the log. */
export class LocalWriter implements Writer {
  readonly #env: WriterEnvironment;
  readonly #account: Account;

  constructor(options: WriterOptions, env: WriterEnvironment) {
    const random = (): number => (env.random() * 2 ** 32) | 0;
    this.#env = env;
    this.#account = new Account(options, new WriterStatistics(env.clock), random);
  }

  get isEmpty(): boolean {
    return this.#account.isEmpty;
  }

  get metrics(): WriterMetrics {
    return this.#account.metrics;
  }

  append(
    topic: TopicInfo,
    partition: number,
    timestamp: number,
    key: Bytes | null,
    value: Bytes | null,
    headers: RecordHeaders,
    sink: AppendSink,
  ): number {
    const account = this.#account;
    if (!account.hasRoom(sizeOf(key, value))) return -1;
    const { accumulator } = this.#env;
    return accumulator.append(account, topic, partition, timestamp, key, value, headers, sink);
  }

  appendAll(topic: TopicInfo, records: RawRecords, sink: AppendSink): boolean {
    if (!this.#account.hasRoom(records.bytes)) return false;
    this.#env.accumulator.appendAll(this.#account, topic, records, sink);
    return true;
  }

  /** What lingers is written first: it is what fills the buffer. */
  room(bytes: number): Promise<void> {
    if (!this.#account.hasRoom(bytes)) this.#env.accumulator.writeAll();
    return this.#account.room(bytes);
  }

  flush(): Promise<void> {
    this.#env.accumulator.writeAll();
    return this.#account.flushed();
  }

  /** Writes what lingers, of all that share its batches. */
  writeNow(): void {
    this.#env.accumulator.writeAll();
  }

  forgetTopic(topic: Topic): void {
    this.#env.accumulator.forgetTopic(topic);
  }

  async close(): Promise<void> {
    await this.flush();
    this.#env.closed(this);
  }
}
