import { originOf } from './consumer-letters.js';
import { TopicReading } from './consumer-read.js';
import type { RecordOf } from './consumer-record.js';
import type { Engine } from './engine.js';
import { aFunction, aSignal, anId, checkOptions } from './options.js';
import type { Producer } from './producer.js';
import { definitionOf, type TopicRef } from './serde.js';

/** How to send dead letters back. */
export interface RedriveOptions {
  /** The group whose commits say which letters were sent back already. @default the topic's name and '.redrive' */
  readonly group?: string;
  /**
   * `(letter) => boolean`. Whether a letter is sent back; one that is not is passed for good by this group. It may
   * be a record that is no letter.
   * @default all are
   */
  readonly filter?: (letter: RecordOf<string>) => boolean;
  /** Ends it after the letters in hand. @default none */
  readonly signal?: AbortSignal;
}

/** Sends the letters of a dead-letter topic back, partition by partition. @returns how many */
export async function redrive(
  engine: Engine,
  producer: Producer,
  topic: TopicRef,
  options: RedriveOptions,
): Promise<number> {
  const { name } = definitionOf('redrive', topic);
  checkOptions<RedriveOptions>(
    'redrive',
    { group: anId, filter: aFunction, signal: aSignal },
    options,
  );
  const { group = `${name}.redrive`, filter, signal } = options;
  const committed = new Map<number, number>();
  if (engine.groups().includes(group)) {
    for (const at of (await engine.group(group)).partitions) {
      if (at.topic === name) committed.set(at.partition, at.committed);
    }
  }
  const from: Record<number, number> = {};
  for (const { partition, logStartOffset } of await engine.partitions(name)) {
    from[partition] = Math.max(logStartOffset, committed.get(partition) ?? 0);
  }
  const reading = new TopicReading(engine, name, { from, ...(signal && { signal }) });
  let count = 0;
  for await (const { partition, records, nextOffset } of reading.batches()) {
    let offset = from[partition]!;
    try {
      for (const letter of records) {
        // Awaited one by one: a letter that cannot be sent must not be passed by later ones.
        if (filter === undefined || filter(letter)) {
          await sendBack(engine, producer, letter);
          count++;
        }
        offset = letter.offset + 1;
      }
      offset = nextOffset;
    } finally {
      await engine.setOffsets(group, [{ topic: name, partition, offset }]);
      from[partition] = offset;
    }
  }
  return count;
}

async function sendBack(
  engine: Engine,
  producer: Producer,
  letter: RecordOf<string>,
): Promise<void> {
  const { topic, partition, timestamp, headers } = originOf('dlq', letter);
  const isThere = partition < (engine.topic(topic)?.partitionCount ?? 0);
  const record = { key: letter.key, value: letter.value, headers, timestamp };
  await producer.send(topic, isThere ? { ...record, partition } : record);
}
