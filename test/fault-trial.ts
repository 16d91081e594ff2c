import { dirname, join } from 'node:path';
import { backupTo } from '../src/backup.js';
import { Consumer } from '../src/consumer.js';
import { TopicReading, type ReadOptions } from '../src/consumer-read.js';
import {
  openDataDirectory,
  type DirectorySettings,
  type OpenDirectory,
} from '../src/data-directory.js';
import { OttlaError, type WrittenRun } from '../src/errors.js';
import { LocalEngine } from '../src/local.js';
import type { Acks, TopicOptions } from '../src/options.js';
import { Topics } from '../src/ottla-topics.js';
import type { Partition } from '../src/partition.js';
import { Producer } from '../src/producer.js';
import { repairDirectory } from '../src/repair.js';
import { defineTopic } from '../src/serde.js';
import type { VerifyReport } from '../src/verify-report.js';
import { verifyDirectory } from '../src/verify.js';
import { FaultDisk } from './fault-disk.js';
import { ManualClock } from './manual-clock.js';

export const directory = '/data';
/** What transactions write to: the model does not know its records. */
export const transactionTopic = 'bills';
const objectTopic = 'objects';
const group = 'g';
/** Virtual time after which what has not settled never will. */
const longestMs = 30 * 60 * 1000;

/** One open Ottla, in its parts. */
interface Running {
  readonly opened: OpenDirectory;
  readonly engine: LocalEngine;
  readonly topics: Topics;
}

/** What became of an attempt. */
export type Outcome<T> =
  | { readonly value: T; readonly error?: undefined }
  | { readonly error: OttlaError; readonly value?: undefined };

interface Sent {
  readonly order: number;
  readonly key: string;
  readonly timestamp: number;
  /** 'uncertain': it may be in the log or not. */
  state: 'acknowledged' | 'refused' | 'uncertain';
  /** Of those that are acknowledged. */
  offset: number;
}

/** What must hold of one partition. */
class ModelLog {
  readonly sent: Map<string, Sent> = new Map();
  /** The log start that was asked for, and that was acknowledged. */
  highestStart = 0;
  lowestStart = 0;
  /** The commit that was acknowledged last, and those that may have come after it. */
  committed: number | null = null;
  readonly maybeCommitted: Set<number> = new Set();

  forget(): void {
    this.sent.clear();
    this.lowestStart = 0;
    this.committed = null;
  }

  get acknowledged(): [value: string, sent: Sent][] {
    return [...this.sent].filter(([, { state }]) => state === 'acknowledged');
  }
}

interface ModelTopic {
  readonly options: TopicOptions;
  /** 'uncertain': a creation or a deletion failed. */
  state: 'there' | 'uncertain' | 'deleted';
  readonly logs: ModelLog[];
}

/**
 * A data directory under faults: makes calls, and keeps a model of what must be there. Everything that
 * is not as promised is a problem.
 */
export class Trial {
  readonly disk: FaultDisk = new FaultDisk();
  clock: ManualClock = new ManualClock();
  readonly model: Map<string, ModelTopic> = new Map();
  readonly warnings: string[] = [];
  /** Failures of calls, in order. */
  readonly failures: OttlaError[] = [];
  /** Codes beside KAFKA_STORAGE_ERROR with which calls may fail under the fault that is tried. */
  allowed: readonly string[] = [];
  /** Only a repair makes it whole. */
  needsRepair = false;
  /** How many keys records have by turns. */
  keys = 3;
  #problems: string[] = [];
  #running: Running | null = null;
  #sent = 0;
  #state = 1;

  get problems(): string[] {
    return [...this.#problems, ...this.disk.problems];
  }

  problem(what: string): void {
    this.#problems.push(what);
  }

  get isOpen(): boolean {
    return this.#running !== null;
  }

  get running(): Running {
    if (this.#running === null) throw new OttlaError('CLOSED', 'it is not open');
    return this.#running;
  }

  readonly #random = (): number => {
    this.#state = (this.#state * 16_807) % 2_147_483_647;
    return this.#state / 2_147_483_648;
  };

  /** Runs a call to its end, however it ends: time goes on as long as it needs some. */
  async attempt<T>(what: string, run: () => Promise<T>): Promise<Outcome<T>> {
    let outcome: { value: T } | { error: unknown } | null = null;
    const started = async (): Promise<T> => run();
    void started().then(
      (value) => (outcome = { value }),
      (error: unknown) => (outcome = { error }),
    );
    const settled = (): { value: T } | { error: unknown } | null => outcome;
    await this.clock.settle();
    for (let ms = 0; settled() === null && ms < longestMs; ms += 5000) {
      await this.clock.advance(5000);
    }
    const ended = settled();
    if (ended === null) {
      this.problem(`${what} never settled`);
      return { error: new OttlaError('REQUEST_TIMED_OUT', 'never settled') };
    }
    if ('value' in ended) return ended;
    const { error } = ended;
    if (error instanceof OttlaError) {
      this.#judge(what, error);
      return { error };
    }
    const stack = error instanceof Error ? (error.stack ?? '') : '';
    const frames = stack.split('\n').filter((line) => line.includes('/src/'));
    this.problem(`${what} failed with ${String(error)} ${frames.slice(0, 3).join(' ')}`);
    return { error: new OttlaError('UNKNOWN_SERVER_ERROR', String(error)) };
  }

  #judge(what: string, error: OttlaError): void {
    this.failures.push(error);
    const codes = ['KAFKA_STORAGE_ERROR', ...this.allowed];
    if (!this.isOpen) codes.push('CLOSED');
    if ([...this.model.values()].some(({ state }) => state === 'uncertain')) {
      codes.push('UNKNOWN_TOPIC_OR_PARTITION');
    }
    if (!codes.includes(error.code)) this.problem(`${what}: ${error.code}: ${error.message}`);
  }

  #log(topic: string, partition: number): ModelLog {
    const { logs } = this.model.get(topic)!;
    for (let i = logs.length; i <= partition; i++) logs.push(new ModelLog());
    return logs[partition]!;
  }

  async open(settings: Partial<DirectorySettings> = {}): Promise<boolean> {
    const { disk, clock } = this;
    const { value: opened } = await this.attempt('open', () =>
      openDataDirectory(directory, {
        readOnly: false,
        random: this.#random,
        clock,
        disk,
        ...settings,
      }),
    );
    if (opened === undefined) return false;
    const engine = new LocalEngine(opened.broker, {
      error: () => undefined,
      warning: (warning) => this.warnings.push(warning),
    });
    this.#running = { opened, engine, topics: new Topics(engine) };
    return true;
  }

  async close(): Promise<void> {
    if (this.#running === null) return;
    const { opened, engine } = this.#running;
    await this.attempt('close', async () => {
      try {
        await engine.close();
      } finally {
        opened.release();
      }
    });
    this.#running = null;
  }

  /** A commit failed for good: nothing can be written until it is opened anew. */
  get hasLostMetadata(): boolean {
    return this.disk.hasRefusedForGood;
  }

  /** The process dies. */
  die(): void {
    this.disk.die();
    // Nor do its timers run.
    this.clock = new ManualClock();
    this.#running = null;
  }

  async create(name: string, options: TopicOptions): Promise<void> {
    const existing = this.model.get(name);
    const logs = Array.from({ length: options.partitions ?? 1 }, () => new ModelLog());
    const topic: ModelTopic = existing ?? { options, state: 'uncertain', logs };
    this.model.set(name, topic);
    const { error } = await this.attempt(`create ${name}`, () =>
      this.running.topics.create(name, options),
    );
    topic.state = error === undefined ? 'there' : 'uncertain';
  }

  async delete(name: string): Promise<void> {
    const topic = this.model.get(name)!;
    const { error } = await this.attempt(`delete ${name}`, () => this.running.topics.delete(name));
    // One whose creation failed half way is unknown, and finished when all is opened anew.
    topic.state = error === undefined ? 'deleted' : 'uncertain';
  }

  async addPartitions(name: string, total: number): Promise<void> {
    const { error } = await this.attempt(`add partitions to ${name}`, () =>
      this.running.topics.addPartitions(name, total),
    );
    if (error === undefined) this.#log(name, total - 1);
  }

  async alter(name: string, options: Omit<TopicOptions, 'partitions'>): Promise<void> {
    await this.attempt(`alter ${name}`, () => this.running.topics.alter(name, options));
  }

  async reopen(name: string, partition: number): Promise<void> {
    await this.attempt(`reopen ${name}-${partition}`, () =>
      this.running.topics.reopen(name, partition),
    );
  }

  /** One record of about 200 bytes, as it is sent and as the model knows it. */
  #next(topic: string): { value: string; sent: Sent } {
    const order = this.#sent++;
    const timestamp = 1_700_000_000_000 + order * 10;
    const key = `k${order % this.keys}`;
    const sent: Sent = { order, key, timestamp, state: 'uncertain', offset: -1 };
    return { value: `${order}/${topic}/`.padEnd(150, '.'), sent };
  }

  /** Sends records in one turn. @returns how many were acknowledged */
  async send(topic: string, partition: number, count: number, acks: Acks = 'all'): Promise<number> {
    const { engine } = this.#running ?? {};
    if (engine === undefined || this.model.get(topic)?.state === 'deleted') return 0;
    // What could not be made takes nothing.
    if (partition >= this.model.get(topic)!.logs.length) return 0;
    const log = this.#log(topic, partition);
    const producer = this.#producer(acks);
    if (producer === null) return 0;
    let acknowledged = 0;
    await this.attempt(`send to ${topic}-${partition}`, () =>
      Promise.all(
        Array.from({ length: count }, async () => {
          const { value, sent } = this.#next(topic);
          const { key, timestamp } = sent;
          log.sent.set(value, sent);
          try {
            const { offset } = await producer.send(topic, { key, value, partition, timestamp });
            sent.offset = offset;
            if (acks !== 0) sent.state = 'acknowledged';
            acknowledged++;
          } catch (error) {
            if (!(error instanceof OttlaError)) throw error;
            this.#judge(`send to ${topic}-${partition}`, error);
            if (error.retriable) sent.state = 'refused';
          }
        }),
      ),
    );
    await this.attempt('close a producer', () => producer.close());
    return acknowledged;
  }

  #producer(acks: Acks): Producer | null {
    const { engine } = this.#running ?? {};
    if (engine === undefined) return null;
    const events = { error: () => undefined, closed: () => undefined };
    return new Producer(engine, this.clock, this.#random, { acks }, events);
  }

  /** What its error calls written is in the log, and nothing else of it. */
  async sendBatch(topic: string, partition: number, count: number): Promise<void> {
    const log = this.#log(topic, partition);
    const producer = this.#producer('all');
    if (producer === null) return;
    const records = Array.from({ length: count }, () => this.#next(topic));
    for (const { value, sent } of records) log.sent.set(value, sent);
    const { value: runs, error } = await this.attempt(`sendBatch to ${topic}-${partition}`, () =>
      producer.sendBatch(
        topic,
        records.map(({ value, sent: { key, timestamp } }) => ({
          key,
          value,
          partition,
          timestamp,
        })),
      ),
    );
    const written: readonly WrittenRun[] = runs ?? error?.written ?? [];
    const offsets = written.flatMap(({ baseOffset, count: length }) =>
      Array.from({ length }, (_, i) => baseOffset + i),
    );
    for (const [i, { sent }] of records.entries()) {
      sent.state = i < offsets.length ? 'acknowledged' : 'refused';
      sent.offset = offsets[i] ?? -1;
    }
    await this.attempt('close a producer', () => producer.close());
  }

  /** Objects of a topic that stores their property names once; the model does not know it. */
  async objects(count: number): Promise<void> {
    const objects = defineTopic(objectTopic, { value: 'msgpack-shared' });
    const { error } = await this.attempt('create objects', () =>
      this.running.topics.create(objects),
    );
    const producer = this.#producer('all');
    if (error !== undefined || producer === null) return;
    for (let n = 0; n < count; n++) {
      await this.attempt('send an object', () => producer.send(objects, { value: { n } }));
    }
    await this.attempt('close a producer', () => producer.close());
  }

  /** A transaction over both partitions of a topic that the model does not know: it may fail, not hang. */
  async transaction(isCommit: boolean, ended: () => void = () => undefined): Promise<void> {
    const { engine } = this.#running ?? {};
    if (engine === undefined) return;
    const events = { error: () => undefined, closed: () => undefined };
    const options = { transactionalId: 'a' };
    const producer = new Producer(engine, this.clock, this.#random, options, events);
    const ignore = (error: unknown): void => {
      if (!(error instanceof OttlaError)) throw error;
    };
    await this.attempt('transaction', () =>
      producer
        .transaction((t) => {
          for (const partition of [0, 1]) {
            t.send(transactionTopic, {
              value: '.'.repeat(200),
              partition,
              timestamp: 1_700_000_000_000,
            });
          }
          if (!isCommit) throw new OttlaError('ABORTED', 'on purpose');
        })
        .then(ended)
        .catch(ignore),
    );
    if (this.isOpen) await this.attempt('close a producer', () => producer.close());
  }

  async deleteRecords(topic: string, partition: number, offset: number): Promise<void> {
    const log = this.#log(topic, partition);
    const end = log.acknowledged.at(-1)?.[1].offset ?? -1;
    // A log that refused its records is shorter.
    if (offset > end) return;
    log.highestStart = Math.max(log.highestStart, offset);
    const { error } = await this.attempt(`delete records of ${topic}-${partition}`, () =>
      this.running.topics.deleteRecords(topic, partition, offset),
    );
    if (error === undefined) log.lowestStart = Math.max(log.lowestStart, offset);
  }

  /** Joins the group, reads a record or two, and commits the end of what is acknowledged. */
  async consume(topic: string): Promise<void> {
    const { engine } = this.#running ?? {};
    if (engine === undefined) return;
    const consumer = new Consumer(
      engine,
      this.clock,
      this.#random,
      { group, topics: [topic], autoCommit: false },
      {
        error: () => undefined,
        warning: () => undefined,
        closed: () => undefined,
      },
    );
    const ready = await this.attempt('join', () => consumer.ready());
    const { logs } = this.model.get(topic)!;
    for (const log of logs) log.maybeCommitted.add(log.lowestStart).add(log.highestStart).add(0);
    const readable = logs.flatMap(({ acknowledged, highestStart, committed, maybeCommitted }) => {
      const from = Math.max(highestStart, committed ?? 0, ...maybeCommitted);
      return acknowledged.filter(([, { offset }]) => offset >= from);
    });
    if (ready.error === undefined && readable.length > 2) {
      const records = consumer[Symbol.asyncIterator]();
      await this.attempt('consume', () => records.next());
      await this.attempt('consume', () => records.next());
      await records.return(undefined);
    }
    const offsets = logs.flatMap(({ acknowledged }, partition) => {
      const offset = (acknowledged.at(-1)?.[1].offset ?? -1) + 1;
      return offset === 0 ? [] : [{ topic, partition, offset }];
    });
    if (ready.error === undefined && offsets.length > 0) {
      for (const { partition, offset } of offsets) logs[partition]!.maybeCommitted.add(offset);
      const { error } = await this.attempt('commit', () => consumer.commit(offsets));
      for (const { partition, offset } of offsets) {
        if (error?.retriable === true) logs[partition]!.maybeCommitted.delete(offset);
        if (error !== undefined) continue;
        logs[partition]!.committed = offset;
        logs[partition]!.maybeCommitted.clear();
      }
    }
    await this.attempt('leave', () => consumer.close());
  }

  async forgetGroup(): Promise<void> {
    const logs = [...this.model.values()].flatMap((topic) => topic.logs);
    const { error } = await this.attempt('delete the group', () =>
      this.running.engine.deleteGroup(group),
    );
    for (const log of logs) {
      if (error === undefined) log.maybeCommitted.clear();
      else if (log.committed !== null) log.maybeCommitted.add(log.committed);
      if (error?.retriable !== true) log.committed = null;
    }
  }

  /** Reads, and compares all that is read with the model. @returns whether it was read to its end */
  async read(topic: string, options: ReadOptions = {}): Promise<boolean> {
    const { engine } = this.#running ?? {};
    if (engine === undefined || this.model.get(topic)?.state === 'deleted') return false;
    const seen: { partition: number; offset: number; value: string; timestamp: number }[] = [];
    const { error } = await this.attempt(`read ${topic}`, async () => {
      const reading = new TopicReading(engine, topic, options);
      for await (const { partition, offset, value, timestamp } of reading) {
        seen.push({ partition, offset, value: String(value), timestamp });
      }
    });
    const last = new Map<number, number>();
    for (const { partition, offset, value, timestamp } of seen) {
      const sent = this.#log(topic, partition).sent.get(value);
      const at = `${topic}-${partition} at ${offset}`;
      if (sent === undefined) this.problem(`${at}: read what was never sent: ${value}`);
      else if (sent.state === 'refused') this.problem(`${at}: read what was refused: ${value}`);
      else if (sent.offset >= 0 && sent.offset !== offset) {
        this.problem(`${at}: read what was acknowledged at ${sent.offset}`);
      } else if (sent.timestamp !== timestamp) this.problem(`${at}: timestamp ${timestamp}`);
      else if (sent.order <= (last.get(partition) ?? -1)) this.problem(`${at}: out of order`);
      last.set(partition, sent?.order ?? -1);
    }
    if (error !== undefined) return false;
    await this.#checkWhole(topic, options, seen);
    return true;
  }

  /** Whether all that was acknowledged is among what was read. */
  async #checkWhole(
    topic: string,
    { from, partitions }: ReadOptions,
    seen: readonly { readonly partition: number; readonly value: string }[],
  ): Promise<void> {
    const { value: description } = await this.attempt(`describe ${topic}`, () =>
      this.running.topics.describe(topic),
    );
    if (description === undefined || description === null) return;
    const { options, logs } = this.model.get(topic)!;
    for (const [partition, log] of logs.entries()) {
      if (partitions?.includes(partition) === false) continue;
      const start = description.partitions[partition]?.logStartOffset ?? 0;
      const name = `${topic}-${partition}`;
      const mayExpire = (options.retentionBytes ?? -1) >= 0;
      const newest = log.acknowledged.at(-1)?.[1].offset ?? -1;
      if (start < log.lowestStart) this.problem(`${name}: the log start went back to ${start}`);
      if (start > (mayExpire ? Math.max(0, newest) : log.highestStart)) {
        this.problem(`${name}: the log start is ${start}, of ${log.highestStart}`);
      }
      const values = new Set(
        seen.filter((one) => one.partition === partition).map((one) => one.value),
      );
      const latest = new Map(log.acknowledged.map(([value, { key }]) => [key, value]));
      const afterwards = [...log.sent].filter(([value]) => values.has(value));
      for (const [value, { offset, key, timestamp, order }] of log.acknowledged) {
        if (offset < start || values.has(value)) continue;
        if (from instanceof Date && timestamp < from.getTime()) continue;
        const isReplaced =
          options.cleanupPolicy === 'compact' &&
          (latest.get(key) !== value ||
            afterwards.some(([, later]) => later.key === key && later.order > order));
        if (!isReplaced)
          this.problem(`${name}: lost ${value.slice(0, 20)}, acknowledged at ${offset}`);
      }
    }
  }

  async advance(ms: number): Promise<void> {
    await this.attempt(`${ms} ms`, () => this.clock.advance(ms));
  }

  async backup(to: string): Promise<boolean> {
    const { error } = await this.attempt('backup', () =>
      backupTo(this.running.opened.broker.backupSource, to, undefined, this.disk),
    );
    return error === undefined;
  }

  async verify(path: string = directory): Promise<VerifyReport | undefined> {
    const { value } = await this.attempt('verify', () => verifyDirectory(path, {}, this.disk));
    return value;
  }

  async repair(): Promise<string[] | undefined> {
    const { value } = await this.attempt('repair', () =>
      repairDirectory(directory, this.#random, undefined, this.disk),
    );
    return value;
  }

  /** A file's bytes, behind the back of who has it open; what `change` returns takes their place. */
  damage(path: string, change: (bytes: Buffer) => Uint8Array | undefined): void {
    const { raw } = this.disk;
    const whole = join(directory, path);
    raw.makeDirectory(dirname(whole));
    const bytes = change(raw.readFile(whole) ?? Buffer.alloc(0));
    raw.removeFile(whole);
    if (bytes === undefined) return;
    const file = raw.open(whole, 'write');
    file.write(bytes, 0, bytes.length, 0);
    file.close();
  }

  /** The disk is well again: reads go on at once, and so do partitions that did not fail. */
  async checkAfterHealing(wasAway: boolean): Promise<void> {
    if (!this.isOpen) return;
    const { broker } = this.running.opened;
    for (const [name, topic] of this.model) {
      if (topic.state !== 'there') continue;
      const { partitions } = broker.topics.get(name);
      // What was looked at while its files were away is read again once it was reopened.
      const readable = partitions.filter(isReadable).map(({ index }) => index);
      if (readable.length > 0 && !(await this.read(name, { partitions: readable })) && !wasAway) {
        this.problem(`${name} cannot be read, and the disk is well`);
      }
      for (const [partition, { failure }] of partitions.entries()) {
        if (failure === null) await this.#checkTakes(name, partition);
      }
    }
  }

  async #checkTakes(name: string, partition: number): Promise<void> {
    const count = await this.send(name, partition, 1);
    if (count === 0) this.problem(`${name}-${partition} takes no records, and the disk is well`);
  }

  /** What a partition that failed is told to do, and takes records then. */
  async checkReopening(): Promise<void> {
    for (const [name, topic] of this.model) {
      if (!this.isOpen || topic.state !== 'there') continue;
      const { partitions } = this.running.opened.broker.topics.get(name);
      for (const [partition, { failure }] of partitions.entries()) {
        if (failure === null) continue;
        await this.reopen(name, partition);
        await this.#checkTakes(name, partition);
      }
      if (!(await this.read(name))) this.problem(`${name} cannot be read after a reopening`);
    }
  }

  /** After a new opening everything is there, takes records, and is sound. */
  async checkAnew(): Promise<void> {
    if (!(await this.open())) {
      this.problem('it cannot be opened, and the disk is well');
      return;
    }
    for (const [name, topic] of this.model) {
      if (topic.state === 'deleted') continue;
      if (topic.state === 'uncertain') {
        // A deletion that failed may have been finished.
        const isGone = !(await this.running.topics.list()).includes(name);
        if (isGone) for (const log of topic.logs) log.forget();
        await this.attempt(`create ${name} again`, () =>
          this.running.topics.create(name, topic.options),
        );
      }
      topic.state = 'there';
      if (!(await this.read(name))) this.problem(`${name} cannot be read after a new opening`);
      for (const partition of topic.logs.keys()) await this.#checkTakes(name, partition);
    }
    this.#checkCommits();
    for (const name of await this.running.topics.list()) {
      const isKnown =
        name === transactionTopic ||
        name === objectTopic ||
        this.model.get(name)?.state === 'there';
      if (!isKnown) this.problem(`${name} is back`);
    }
    await this.close();
    const { problems } = (await this.verify()) ?? { problems: [] };
    for (const { message } of problems) this.problem(`verify: ${message}`);
    if (this.disk.files.openCount > 0) {
      this.problem(`${this.disk.files.openCount} files were left open`);
    }
  }

  #checkCommits(): void {
    const { offsets } = this.running.opened.broker;
    for (const [name, topic] of this.model) {
      if (topic.state !== 'there') continue;
      const { id } = this.running.opened.broker.topics.get(name);
      for (const [partition, { committed, maybeCommitted }] of topic.logs.entries()) {
        const found = offsets.fetch(group, id, partition)?.offset ?? null;
        if (found === committed || (found !== null && maybeCommitted.has(found))) continue;
        this.problem(`${name}-${partition}: committed is ${found}, acknowledged was ${committed}`);
      }
    }
  }
}

/** Of one that could not be recovered nobody knows where it ends: it is read again once it was reopened. */
function isReadable(partition: Partition): boolean {
  try {
    return partition.logEndOffset >= 0;
  } catch {
    return partition.failure === null;
  }
}
