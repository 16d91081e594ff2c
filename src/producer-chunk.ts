import type { RawRecords } from './engine.js';
import type { PartitionChoice } from './producer-partition.js';
import {
  copiedBytes,
  copiedHeaders,
  rawHeaders,
  rawTimestamp,
  type AnyRecord,
} from './producer-record.js';
import { noHeaders, sizeOf, type Bytes, type RecordHeaders } from './record.js';
import { encode, type TopicDefinition } from './serde.js';
import type { TopicInfo } from './topic.js';

/** A sendBatch takes over this many records, or about this many bytes of them, at a time. */
const chunkRecords = 4096;
const maxChunkBytes = 1024 * 1024;

/** Records of a sendBatch on their way, with their partitions. */
export class Chunk implements RawRecords {
  count = 0;
  readonly timestamps: Float64Array = new Float64Array(chunkRecords);
  readonly keys: (Bytes | null)[] = [];
  readonly values: (Bytes | null)[] = [];
  readonly headers: RecordHeaders[] = [];
  readonly partitions: Int32Array = new Int32Array(chunkRecords);
  longest = 0;
  bytes = 0;
  definition: TopicDefinition;
  /** The topic that the partitions are chosen for. */
  info: TopicInfo;
  #now: number;
  readonly #choice: PartitionChoice;
  readonly #maxBytes: number;

  /** @param bufferMemory of the producer, which a chunk must fit */
  constructor(
    choice: PartitionChoice,
    bufferMemory: number,
    definition: TopicDefinition,
    info: TopicInfo,
    now: number,
  ) {
    this.#choice = choice;
    this.#maxBytes = Math.min(maxChunkBytes, bufferMemory);
    this.definition = definition;
    this.info = info;
    this.#now = now;
  }

  /** Takes records anew. */
  begin(definition: TopicDefinition, info: TopicInfo, now: number): void {
    this.definition = definition;
    this.info = info;
    this.#now = now;
  }

  /** Lets go of what was sent, but not of the room for as much. */
  clear(): void {
    this.keys.fill(null, 0, this.count);
    this.values.fill(null, 0, this.count);
    if (this.longest === Infinity) this.headers.fill(noHeaders, 0, this.count);
    this.count = 0;
    this.longest = 0;
    this.bytes = 0;
  }

  get isFull(): boolean {
    return this.count === chunkRecords || this.bytes >= this.#maxBytes;
  }

  /**
   * Adds what fits of an array from an index on.
   * @returns the index behind it
   * @throws TypeError, RangeError
   */
  addAll(records: readonly AnyRecord[], from: number): number {
    let at = from;
    while (at < records.length && !this.isFull) this.add(records[at++]!);
    return at;
  }

  /** Checks a record, encodes its key and value, and adds it. @throws TypeError, RangeError */
  add(record: AnyRecord): void {
    const { definition, count } = this;
    const timestamp = rawTimestamp(definition, record, this.#now);
    const key = encode(definition, 'key', record.key);
    const value = encode(definition, 'value', record.value);
    const headers = rawHeaders(definition, record);
    this.partitions[count] = this.#choice.of(this.info, record.partition, key);
    this.timestamps[count] = timestamp;
    this.keys[count] = key;
    this.values[count] = value;
    this.headers[count] = headers;
    const bytes = sizeOf(key, value);
    this.bytes += bytes;
    if (headers.length > 0) this.longest = Infinity;
    else if (bytes > this.longest) this.longest = bytes;
    this.count = count + 1;
  }

  /** As add(), with bytes of its own: the source may write over the record's when it is asked for the next. */
  addCopy(record: AnyRecord): void {
    this.add(record);
    const last = this.count - 1;
    this.keys[last] = copiedBytes(this.keys[last]!);
    this.values[last] = copiedBytes(this.values[last]!);
    this.headers[last] = copiedHeaders(this.headers[last]!);
  }
}
