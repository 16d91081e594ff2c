import { setImmediate as turn } from 'node:timers/promises';
import type { Broker } from '../../src/broker.js';
import { LocalEngine } from '../../src/local.js';
import type { Acks } from '../../src/options.js';
import { Producer } from '../../src/producer.js';
import type { Partition } from '../../src/partition.js';
import { checkRecords, checkStart, isRefusal, must } from './check.js';
import { readLog } from './log-reading.js';
import type { PowerMachine } from './machine.js';
import {
  commitKey,
  firstTimestamp,
  groups,
  isCompacted,
  newPartition,
  valueOf,
  type Model,
  type SentRecord,
  type TopicModel,
} from './model.js';
import type { Random } from './random.js';

const names = ['a', 'b', 'c'] as const;
/** Where nobody asks for 'all' nothing is synced for long. */
const acksOf: readonly (readonly Acks[])[] = [[0, 1, 'all', 'all'], ['all'], [0, 1, 1], [1]];
/** More turns of the event loop than any of this takes. */
const patience = 2000;

interface Chosen {
  readonly topic: TopicModel;
  readonly index: number;
}

/** What a program does with an open Ottla, chosen at random; the model hears of it as the program does. */
export class Workload {
  readonly #machine: PowerMachine;
  readonly #broker: Broker;
  readonly #model: Model;
  readonly #random: Random;
  readonly #trace: (line: string) => void;
  readonly #engine: LocalEngine;
  readonly #producers: readonly (readonly [Acks, Producer])[];
  readonly #underWay = new Map<Promise<void>, string>();
  #failure: Error | null = null;
  acknowledged = 0;

  constructor(
    machine: PowerMachine,
    broker: Broker,
    model: Model,
    random: Random,
    trace: (line: string) => void,
  ) {
    this.#machine = machine;
    this.#broker = broker;
    this.#model = model;
    this.#random = random;
    this.#trace = trace;
    const fail = (problem: string): void => {
      this.#failure ??= new Error(problem);
    };
    this.#engine = new LocalEngine(broker, {
      error: (error) => {
        if (isRefusal(error, 'UNKNOWN_TOPIC_OR_PARTITION') || this.#isFault(error)) return;
        fail(`error: ${error.message}`);
      },
      warning: (warning) => {
        if (warning.includes('retention deleted offsets') || machine.faults > 0) return;
        fail(`warning: ${warning}`);
      },
    });
    const events = { error: () => undefined, closed: () => undefined };
    this.#producers = random.oneOf(acksOf).map((acks) => {
      const next = (): number => random.next();
      return [acks, new Producer(this.#engine, machine.clock, next, { acks }, events)];
    });
  }

  /** What may be done next, each as often as it is likely. */
  #actions(): (readonly [what: string, act: () => Promise<unknown>])[] {
    const weighted = [
      [10, 'send', () => this.#send()],
      [5, 'sendBatch', () => this.#sendBatch()],
      [4, 'commit', () => this.#commit()],
      [3, 'create', () => this.#create()],
      [2, 'compact', () => this.#compact()],
      [1, 'delete', () => this.#delete()],
      [1, 'addPartitions', () => this.#addPartitions()],
      [2, 'deleteRecords', () => this.#deleteRecords()],
      [2, 'retention', () => this.#broker.retention.check()],
      [2, 'reopen', () => this.#reopen()],
      [1, 'read', () => this.#read()],
      [3, 'time', () => this.#machine.clock.advance(5001)],
    ] as const;
    return weighted.flatMap(([weight, what, act]) =>
      Array.from({ length: weight }, () => [what, act] as const),
    );
  }

  /** Does so many things, some of them at once, and waits for all. */
  async run(count: number): Promise<void> {
    const actions = this.#actions();
    for (let i = 0; i < count; i++) {
      const isEmpty = this.#model.topics.size === 0;
      const begun = isEmpty
        ? this.#begin('create', () => this.#create())
        : this.#begin(...this.#random.oneOf(actions));
      if (this.#random.chance(0.3)) await begun;
      else if (this.#random.chance(0.5)) await turn();
      if (this.#failure !== null) throw this.#failure;
    }
    await this.#settle();
  }

  #begin(what: string, act: () => Promise<unknown>): Promise<void> {
    this.#trace(what);
    const done = act().then(
      () => undefined,
      (error: unknown) => {
        if (this.#isFault(error)) return;
        this.#failure ??= new Error(`${what}: ${String(error)}`, { cause: error });
      },
    );
    this.#underWay.set(done, what);
    void done.then(() => this.#underWay.delete(done));
    return done;
  }

  /** A disk that has failed may fail what needs it, until the partition is opened anew. */
  #isFault(error: unknown): boolean {
    return this.#machine.faults > 0 && isRefusal(error, 'KAFKA_STORAGE_ERROR');
  }

  async #settle(): Promise<void> {
    for (let turns = 0; this.#underWay.size > 0 && turns < patience; turns++) await turn();
    if (this.#failure !== null) throw this.#failure;
    const [unsettled] = this.#underWay.values();
    must(unsettled === undefined, `${unsettled} does not settle`);
  }

  async close(): Promise<void> {
    void this.#begin('close', () => this.#engine.close());
    await this.#settle();
  }

  #live(): TopicModel[] {
    return [...this.#model.topics.values()].filter(({ state }) => state === 'live');
  }

  #choose(): Chosen | null {
    const live = this.#live();
    if (live.length === 0) return null;
    const topic = this.#random.oneOf(live);
    return { topic, index: this.#random.below(topic.partitionsAtLeast) };
  }

  #partition({ topic, index }: Chosen): Partition {
    return this.#broker.topics.partition({ topic: topic.name, partition: index });
  }

  async #create(): Promise<void> {
    const name = this.#random.oneOf(names);
    if (this.#model.topics.has(name)) return this.#send();
    const settings = {
      segmentBytes: this.#random.oneOf([1024, 1024, 2048, 8192, 65_536]),
      indexIntervalBytes: this.#random.oneOf([0, 512]),
      ...this.#random.oneOf([
        {},
        {},
        { retentionBytes: 2048 },
        { retention: 'consumed' as const },
        { cleanupPolicy: 'compact' as const, minCleanableDirtyRatio: 0 },
        { cleanupPolicy: 'compact' as const, minCleanableDirtyRatio: 0.3 },
      ]),
    };
    const partitionCount = 1 + this.#random.below(2);
    const topic: TopicModel = {
      name,
      incarnation: this.#model.nextIncarnation++,
      state: 'creating',
      settings,
      partitionsAtLeast: partitionCount,
      partitions: Array.from({ length: partitionCount }, newPartition),
    };
    this.#model.topics.set(name, topic);
    const codecs = { key: null, value: null };
    await this.#engine.createTopic({ name, partitionCount, settings, codecs });
    topic.state = 'live';
  }

  async #delete(): Promise<void> {
    const live = this.#live();
    if (live.length === 0) return;
    const topic = this.#random.oneOf(live);
    topic.state = 'deleting';
    await this.#engine.deleteTopic(topic.name);
    this.#model.topics.delete(topic.name);
  }

  async #addPartitions(): Promise<void> {
    const topic = this.#choose()?.topic;
    if (topic === undefined || topic.partitions.length > 4) return;
    topic.partitions.push(newPartition());
    const total = topic.partitions.length;
    await unless(topic, () => this.#engine.addPartitions(topic.name, total));
    topic.partitionsAtLeast = Math.max(topic.partitionsAtLeast, total);
  }

  #newRecord({ topic, index }: Chosen): SentRecord {
    const number = this.#model.nextNumber++;
    const key = isCompacted(topic) ? this.#random.oneOf(['x', 'y', 'z']) : null;
    const isTombstone = key !== null && this.#random.chance(0.1);
    const value = isTombstone ? null : valueOf(topic.incarnation, index, number);
    const record = { number, key, value };
    topic.partitions[index]!.sent.set(number, record);
    return record;
  }

  #acknowledge({ topic, index }: Chosen, acks: Acks, offset: number, number: number): void {
    const partition = topic.partitions[index]!;
    if (acks === 0) return;
    if (acks === 'all') partition.durable.set(offset, number);
    else partition.written.set(offset, number);
    this.acknowledged++;
  }

  async #send(): Promise<void> {
    const chosen = this.#choose();
    if (chosen === null) return;
    const { topic, index } = chosen;
    const [acks, producer] = this.#random.oneOf(this.#producers);
    const sends = Array.from({ length: 1 + this.#random.below(4) }, async () => {
      const { number, key, value } = this.#newRecord(chosen);
      const timestamp = firstTimestamp + number;
      const record = { key, value, partition: index, timestamp };
      const sent = await unless(topic, () => producer.send(topic.name, record));
      if (sent !== null) this.#acknowledge(chosen, acks, sent.offset, number);
    });
    // Some may fail and others not.
    const outcomes = await Promise.allSettled(sends);
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }

  async #sendBatch(): Promise<void> {
    const chosen = this.#choose();
    if (chosen === null) return;
    const { topic, index } = chosen;
    const [acks, producer] = this.#random.oneOf(this.#producers);
    const sent = Array.from({ length: 1 + this.#random.below(12) }, () => this.#newRecord(chosen));
    const records = sent.map(({ number, key, value }) => ({
      key,
      value,
      partition: index,
      timestamp: firstTimestamp + number,
    }));
    const runs = await unless(topic, () => producer.sendBatch(topic.name, records));
    let at = 0;
    for (const { baseOffset, count } of runs ?? []) {
      for (let i = 0; i < count; i++) {
        this.#acknowledge(chosen, acks, baseOffset + i, sent[at++]!.number);
      }
    }
  }

  /** As a member commits: with the epoch of the record before. */
  async #commit(): Promise<void> {
    const chosen = this.#choose();
    if (chosen === null) return;
    const { topic, index } = chosen;
    const partition = this.#partition(chosen);
    const group = this.#random.oneOf(groups);
    const key = commitKey(group, topic, index);
    const asked = this.#model.commits.get(key) ?? [];
    const { logStartOffset, logEndOffset } = partition;
    const from = Math.max(logStartOffset, asked.at(-1)?.offset ?? 0);
    const offset = from + this.#random.below(Math.max(1, logEndOffset - from + 1));
    const commit = { offset, lastNumber: this.#model.nextNumber - 1, isDurable: false };
    this.#model.commits.set(key, [...asked, commit]);
    const { topicId } = partition;
    const leaderEpoch = partition.epochBefore(offset);
    await this.#broker.offsets.commit(group, [
      { topicId, partition: index, offset, leaderEpoch, metadata: '' },
    ]);
    commit.isDurable = true;
  }

  async #deleteRecords(): Promise<void> {
    const chosen = this.#choose();
    if (chosen === null) return;
    const { topic, index } = chosen;
    const { logStartOffset, logEndOffset } = this.#partition(chosen);
    const before = logStartOffset + this.#random.below(logEndOffset - logStartOffset + 1);
    const model = topic.partitions[index]!;
    model.startAtMost = Math.max(model.startAtMost, before);
    const at = { topic: topic.name, partition: index };
    const start = await unless(topic, () => this.#engine.deleteRecords(at, before));
    if (start !== null) model.startAtLeast = Math.max(model.startAtLeast, start);
  }

  async #compact(): Promise<void> {
    const chosen = this.#choose();
    if (chosen !== null) await this.#partition(chosen).compact();
  }

  async #reopen(): Promise<void> {
    const chosen = this.#choose();
    if (chosen === null) return;
    const at = { topic: chosen.topic.name, partition: chosen.index };
    const report = await unless(chosen.topic, () => this.#engine.reopenPartition(at));
    must(report === null, `reopen says: ${report}`);
  }

  async #read(): Promise<void> {
    const chosen = this.#choose();
    if (chosen === null) return;
    const partition = this.#partition(chosen);
    try {
      await readLog(partition);
    } catch (error) {
      if (isRefusal(error, 'OFFSET_OUT_OF_RANGE')) return;
      if (chosen.topic.state !== 'live' && isRefusal(error, 'UNKNOWN_TOPIC_OR_PARTITION')) return;
      throw error;
    }
  }

  /** What is there while it is open: all that was acknowledged. */
  async check(): Promise<void> {
    // What nobody waits for goes on: acks 0, and compaction behind a roll.
    await this.#machine.rest();
    for (const topic of this.#live()) {
      for (let index = 0; index < topic.partitionsAtLeast; index++) {
        const partition = this.#partition({ topic, index });
        checkStart(this.#model, topic, partition);
        const { durable, written } = topic.partitions[index]!;
        const both = { ...topic.partitions[index]!, durable: new Map([...durable, ...written]) };
        const partitions = topic.partitions.with(index, both);
        await checkRecords({ ...topic, partitions }, partition, index, await readLog(partition));
      }
    }
  }
}

/** What a call gives; null if it was refused because the topic is being deleted. */
async function unless<T>(topic: TopicModel, call: () => Promise<T>): Promise<T | null> {
  try {
    return await call();
  } catch (error) {
    if (topic.state !== 'live' && isRefusal(error, 'UNKNOWN_TOPIC_OR_PARTITION')) return null;
    throw error;
  }
}
