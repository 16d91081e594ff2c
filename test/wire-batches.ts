import type { Ottla } from '../src/index.js';
import { RecordReader } from '../src/record-reader.js';
import { readBatchHeader, type BatchOrigin } from '../src/record.js';
import { encodeBatch, type PlacedBatch } from '../src/record-writer.js';
import { serve, type ServeOptions } from '../src/server/index.js';
import { WireClient, type Fields } from './wire-client.js';

/** A batch as a client sends it: of these values, from second 1 on. */
export function batchOf(
  values: readonly string[],
  more: Partial<Omit<PlacedBatch, 'records'>> & { readonly key?: string | null } = {},
): Buffer {
  const { key = null, ...batch } = more;
  const records = values.map((value, offset) => ({
    offset,
    timestamp: 1000 + offset,
    key,
    value,
  }));
  return encodeBatch({ baseOffset: 0, leaderEpoch: -1, records, ...batch });
}

export const numbered = (producerId: bigint, baseSequence: number): BatchOrigin => ({
  producerId,
  producerEpoch: 0,
  baseSequence,
});

/** The values in fetched batches, with their offsets. */
export function valuesIn(records: Buffer): [offset: number, value: string][] {
  const values: [number, string][] = [];
  const reader = new RecordReader();
  for (let at = 0; at < records.length;) {
    const batch = readBatchHeader(records, at, records.length)!;
    if (!batch.isControl) {
      reader.open(records, at, batch);
      while (reader.next()) values.push([reader.offset, String(reader.value(true))]);
    }
    at += batch.size;
  }
  return values;
}

/** A client in this process of a server of its own. */
export async function connected(ottla: Ottla, options: ServeOptions = {}): Promise<WireClient> {
  const server = await serve(ottla, { listen: false, ...options });
  return new WireClient(server.connect());
}

export interface ProducedPartition {
  readonly index: number;
  readonly errorCode: number;
  readonly baseOffset: number;
  readonly logAppendTimeMs: number;
  readonly logStartOffset: number;
  readonly errorMessage: string | null;
}

export const produceRequest = (
  topic: string,
  partitions: Readonly<Record<number, Buffer | null>>,
  more: Fields = {},
): Fields => ({
  acks: -1,
  timeoutMs: 30_000,
  topicData: [
    {
      name: topic,
      partitionData: Object.entries(partitions).map(([index, records]) => ({
        index: Number(index),
        records,
      })),
    },
  ],
  ...more,
});

/** @returns what became of each partition */
export async function produce(
  client: WireClient,
  topic: string,
  partitions: Readonly<Record<number, Buffer | null>>,
  more: Fields = {},
  version?: number,
): Promise<readonly ProducedPartition[]> {
  const answer = await client.ask<{
    responses: { name: string; partitionResponses: ProducedPartition[] }[];
  }>('Produce', produceRequest(topic, partitions, more), version);
  return answer.responses[0]!.partitionResponses;
}

export interface FetchedPartition {
  readonly partitionIndex: number;
  readonly errorCode: number;
  readonly highWatermark: number;
  readonly lastStableOffset: number;
  readonly logStartOffset: number;
  readonly abortedTransactions: readonly { producerId: bigint; firstOffset: number }[] | null;
  readonly divergingEpoch: { epoch: number; endOffset: number } | null;
  readonly records: Buffer;
}

export interface FetchAnswer {
  readonly errorCode: number;
  readonly sessionId: number;
  readonly responses: readonly { topic: string; partitions: readonly FetchedPartition[] }[];
}

/** Fetches from these offsets; waits for nothing unless told to. */
export function fetchRequest(
  topic: string,
  offsets: Readonly<Record<number, number>>,
  more: Fields = {},
  ofPartitions: Fields = {},
): Fields {
  return {
    maxWaitMs: 0,
    minBytes: 1,
    topics: [
      {
        topic,
        partitions: Object.entries(offsets).map(([partition, fetchOffset]) => ({
          partition: Number(partition),
          fetchOffset,
          partitionMaxBytes: 1_048_576,
          ...ofPartitions,
        })),
      },
    ],
    forgottenTopicsData: [],
    ...more,
  };
}

export async function fetchPartitions(
  client: WireClient,
  ...request: Parameters<typeof fetchRequest>
): Promise<readonly FetchedPartition[]> {
  const answer = await client.ask<FetchAnswer>('Fetch', fetchRequest(...request));
  return answer.responses.flatMap(({ partitions }) => partitions);
}
