import type { Assignor, Consumer, ConsumerRecord, Ottla } from '../src/index.js';

/** Sends these values to one partition, in one call. */
export async function send(
  ottla: Ottla,
  topic: string,
  values: readonly (string | number)[],
  partition = 0,
): Promise<void> {
  const producer = ottla.producer({ acks: 1 });
  await producer.sendBatch(
    topic,
    values.map((value) => ({ value: String(value), partition })),
  );
  await producer.close();
}

/** The next `count` items, then `break`: the last one is not marked as processed. */
export async function take<T>(source: AsyncIterable<T>, count: number): Promise<T[]> {
  const items: T[] = [];
  for await (const item of source) {
    items.push(item);
    if (items.length === count) break;
  }
  return items;
}

interface Valued {
  readonly value: unknown;
}

/** Values, as text, in the order of the records. */
export function valuesOf(records: Iterable<Valued>): string[] {
  return [...records].map(({ value }) => String(value));
}

/** The next `count` values, then `break`. */
export async function takeValues(source: AsyncIterable<Valued>, count: number): Promise<string[]> {
  return valuesOf(await take(source, count));
}

/** A consumer whose loop runs in the background until it is closed. */
export class Loop {
  readonly consumer: Consumer;
  readonly records: ConsumerRecord[] = [];
  readonly #ended: Promise<void>;

  constructor(consumer: Consumer, each?: (record: ConsumerRecord) => Promise<void>) {
    this.consumer = consumer;
    this.#ended = this.#run(each);
    this.#ended.catch(() => undefined);
  }

  async #run(each: ((record: ConsumerRecord) => Promise<void>) | undefined): Promise<void> {
    for await (const record of this.consumer) {
      this.records.push(record);
      await each?.(record);
    }
  }

  get values(): string[] {
    return valuesOf(this.records);
  }

  /** @throws what ended the loop */
  async ended(): Promise<void> {
    await this.#ended;
  }

  async close(): Promise<void> {
    await this.consumer.close();
    await this.#ended;
  }
}

/** Where a group's commits are, by partition of a topic: -1, nothing committed. */
export async function committed(ottla: Ottla, group: string, topic: string): Promise<number[]> {
  const { partitions } = await ottla.groups.describe(group);
  return partitions.filter((at) => at.topic === topic).map((at) => at.committed);
}

/** Owned partitions as text, in order. */
export function owned(consumer: Consumer): string[] {
  return consumer
    .assignment()
    .map(({ topic, partition }) => `${topic}-${partition}`)
    .toSorted();
}

/** `count` numbers from `from` on, as text. */
export function numbers(count: number, from = 0): string[] {
  return Array.from({ length: count }, (_, i) => String(from + i));
}

/** Gives partition i to member i, in the order of joining. */
export const inOrder: Assignor = {
  name: 'in-order',
  assign: ({ partitions, members }) => {
    const places = Object.entries(partitions).flatMap(([topic, count]) =>
      Array.from({ length: count }, (_, partition) => ({ topic, partition })),
    );
    return new Map(
      members.map(({ memberId }, i) => [
        memberId,
        places.filter((_place, at) => at % members.length === i),
      ]),
    );
  },
};
