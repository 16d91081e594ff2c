import type { TopicPartition } from './assignment.js';

/** What a member of protocol type 'consumer' tells its group's leader: ConsumerProtocolSubscription. */
export interface Subscription {
  readonly topics: readonly string[];
  /** The assignor's own; null: none. */
  readonly userData: Buffer | null;
  /** What it still reads, and gives up only when told to; a member that stops for a rebalance has none. */
  readonly owned: readonly TopicPartition[];
  /** The generation that gave it `owned`; -1: unknown. */
  readonly generation: number;
}

/** What sticky assignors remember of the last assignment. */
export interface PreviousAssignment {
  readonly owned: readonly TopicPartition[];
  /** -1: unknown. */
  readonly generation: number;
}

const unknownGeneration = -1;
const noBytes = Buffer.alloc(0);

/** Versions 0 to 3, and what later ones begin with. undefined: these bytes are none. */
export function decodeSubscription(bytes: Buffer): Subscription | undefined {
  return parsed(bytes, (fields) => {
    const version = fields.int16();
    const topics = fields.list(() => fields.string());
    const userData = fields.bytes();
    const owned = version >= 1 ? fields.partitions() : [];
    const generation = version >= 2 ? fields.int32() : unknownGeneration;
    return { topics, userData, owned, generation };
  });
}

/** In version 3, without a rack. */
export function encodeSubscription(subscription: Subscription): Buffer {
  const { topics, userData, owned, generation } = subscription;
  return Buffer.concat([
    int16(3),
    int32(topics.length),
    ...topics.map(string),
    nullableBytes(userData),
    partitionsBytes(owned),
    int32(generation),
    int16(-1),
  ]);
}

/** ConsumerProtocolAssignment; no bytes at all are no partitions. undefined: these bytes are none. */
export function decodeAssignment(bytes: Buffer): readonly TopicPartition[] | undefined {
  if (bytes.length === 0) return [];
  return parsed(bytes, (fields) => {
    fields.int16();
    return fields.partitions();
  });
}

/** In version 0, which every client reads, without user data. */
export function encodeAssignment(assigned: readonly TopicPartition[]): Buffer {
  return Buffer.concat([int16(0), partitionsBytes(assigned), int32(-1)]);
}

/** User data of the sticky assignor: version 0 has no generation. undefined: these bytes are none. */
export function decodeStickyData(bytes: Buffer): PreviousAssignment | undefined {
  return parsed(bytes, (fields) => {
    const owned = fields.partitions();
    return { owned, generation: fields.isAtEnd ? unknownGeneration : fields.int32() };
  });
}

/**
 * What a member had, as the assignor of this name hears of it: sticky's user data; for the others what it
 * still owns, with the generation that cooperative-sticky writes into the user data of old versions.
 */
export function previousAssignment(
  assignorName: string,
  subscription: Subscription,
): PreviousAssignment {
  const { userData, owned, generation } = subscription;
  if (assignorName === 'sticky' && userData !== null && owned.length === 0) {
    return decodeStickyData(userData) ?? { owned, generation };
  }
  if (generation === unknownGeneration && userData !== null && userData.length === 4) {
    return { owned, generation: userData.readInt32BE() };
  }
  return { owned, generation };
}

function parsed<T>(bytes: Buffer, parse: (fields: Fields) => T): T | undefined {
  try {
    return parse(new Fields(bytes));
  } catch (error) {
    // Reads past the end, and lengths below zero.
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** Kafka's primitive types, one after the other. Every read throws RangeError past the end. */
class Fields {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  int16(): number {
    this.#at += 2;
    return this.#bytes.readInt16BE(this.#at - 2);
  }

  int32(): number {
    this.#at += 4;
    return this.#bytes.readInt32BE(this.#at - 4);
  }

  string(): string {
    return this.#take(this.int16()).toString();
  }

  bytes(): Buffer | null {
    const length = this.int32();
    return length === -1 ? null : this.#take(length);
  }

  list<T>(next: () => T): T[] {
    const count = this.int32();
    if (count < 0) throw new RangeError(`a list of ${count}`);
    const items: T[] = [];
    for (let i = 0; i < count; i++) items.push(next());
    return items;
  }

  partitions(): TopicPartition[] {
    return this.list(() => {
      const topic = this.string();
      return this.list(() => ({ topic, partition: this.int32() }));
    }).flat();
  }

  #take(length: number): Buffer {
    const end = this.#at + length;
    if (length < 0 || end > this.#bytes.length) throw new RangeError(`${length} bytes`);
    const taken = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function string(value: string): Buffer {
  return Buffer.concat([int16(Buffer.byteLength(value)), Buffer.from(value)]);
}

function nullableBytes(value: Buffer | null): Buffer {
  return Buffer.concat([int32(value?.length ?? -1), value ?? noBytes]);
}

/** By topic, each in the order given. */
function partitionsBytes(list: readonly TopicPartition[]): Buffer {
  const byTopic = new Map<string, number[]>();
  for (const { topic, partition } of list) {
    const partitions = byTopic.get(topic);
    if (partitions === undefined) byTopic.set(topic, [partition]);
    else partitions.push(partition);
  }
  const topics = [...byTopic].map(([topic, partitions]) =>
    Buffer.concat([string(topic), int32(partitions.length), ...partitions.map(int32)]),
  );
  return Buffer.concat([int32(topics.length), ...topics]);
}
