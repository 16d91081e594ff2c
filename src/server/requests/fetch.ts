import type { Isolation } from '../../options.js';
import type { Partition } from '../../partition.js';
import type { FetchRead } from '../fetch-place.js';
import { keyOf, type FetchedPartition, type OpenFetch } from '../fetch-sessions.js';
import { findPartition } from '../topic-lookup.js';
import { FetchWait } from '../fetch-wait.js';
import { api, type Api, type RequestContext } from '../protocol/api.js';
import { errorNumberOf, noError } from '../protocol/errors.js';
import {
  array,
  arrayOf,
  bigint64,
  int16,
  int32,
  int64,
  int8,
  records,
  string,
  struct,
  uuid,
  type Decoded,
  type Encodable,
} from '../protocol/schema.js';

const noRecords = Buffer.alloc(0);

const request = {
  clusterId: string({ since: 12, nullable: 12, tag: 0, default: null }),
  replicaId: int32({ until: 14, default: -1 }),
  replicaState: struct(
    { replicaId: int32({ default: -1 }), replicaEpoch: int64({ default: -1 }) },
    { since: 15, tag: 1 },
  ),
  maxWaitMs: int32(),
  minBytes: int32(),
  maxBytes: int32({ default: 2147483647 }),
  isolationLevel: int8({ default: 0 }),
  sessionId: int32({ since: 7, default: 0 }),
  sessionEpoch: int32({ since: 7, default: -1 }),
  topics: array({
    topic: string({ until: 12 }),
    topicId: uuid({ since: 13 }),
    partitions: array({
      partition: int32(),
      currentLeaderEpoch: int32({ since: 9, default: -1 }),
      fetchOffset: int64(),
      lastFetchedEpoch: int32({ since: 12, default: -1 }),
      logStartOffset: int64({ since: 5, default: -1 }),
      partitionMaxBytes: int32(),
      replicaDirectoryId: uuid({ since: 17, tag: 0 }),
      highWatermark: bigint64({ since: 18, tag: 1, default: 2n ** 63n - 1n }),
    }),
  }),
  forgottenTopicsData: array(
    {
      topic: string({ since: 7, until: 12 }),
      topicId: uuid({ since: 13 }),
      partitions: arrayOf(int32(), { since: 7 }),
    },
    { since: 7 },
  ),
  rackId: string({ since: 11, default: '' }),
};

const partitionResponse = {
  partitionIndex: int32(),
  errorCode: int16(),
  highWatermark: int64(),
  lastStableOffset: int64({ default: -1 }),
  logStartOffset: int64({ since: 5, default: -1 }),
  divergingEpoch: struct(
    {
      epoch: int32({ since: 12, default: -1 }),
      endOffset: int64({ since: 12, default: -1 }),
    },
    { since: 12, tag: 0 },
  ),
  currentLeader: struct(
    {
      leaderId: int32({ since: 12, default: -1 }),
      leaderEpoch: int32({ since: 12, default: -1 }),
    },
    { since: 12, tag: 1 },
  ),
  snapshotId: struct(
    {
      endOffset: int64({ default: -1 }),
      epoch: int32({ default: -1 }),
    },
    { since: 12, tag: 2 },
  ),
  abortedTransactions: array(
    {
      producerId: bigint64(),
      firstOffset: int64(),
    },
    { nullable: 4 },
  ),
  preferredReadReplica: int32({ since: 11, default: -1 }),
  records: records({ nullable: 0 }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  errorCode: int16({ since: 7, default: 0 }),
  sessionId: int32({ since: 7, default: 0 }),
  responses: array({
    topic: string({ until: 12 }),
    topicId: uuid({ since: 13 }),
    partitions: array(partitionResponse),
  }),
  nodeEndpoints: array(
    {
      nodeId: int32(),
      host: string(),
      port: int32(),
      rack: string({ nullable: 16, default: null }),
    },
    { since: 16, tag: 0, default: [] },
  ),
};

type Request = Decoded<typeof request>;
type Answer = Encodable<typeof response>;
type PartitionAnswer = Encodable<typeof partitionResponse>;
type TopicAnswer = { topic: string; topicId: string; partitions: PartitionAnswer[] };

/** From this version on topics are named by their ids (KIP-516). */
const idsSince = 13;

/** Kafka's fetch.max.bytes. */
const maxAnswerBytes = 55 * 1024 * 1024;

export const fetch: Api = api({
  key: 1,
  name: 'Fetch',
  versions: [4, 18],
  flexible: 12,
  request,
  response,
  handle,
});

async function handle(asked: Request, context: RequestContext): Promise<Answer> {
  let open: OpenFetch;
  try {
    open = context.node.fetchSessions.open(asked, context.version >= idsSince);
  } catch (error) {
    return { errorCode: errorNumberOf(error), responses: [] };
  }
  const { session } = open;
  if (session !== null) session.isBusy = true;
  try {
    const fetching = new Fetching(asked, open, context);
    return { sessionId: session?.id ?? 0, responses: await fetching.answer() };
  } finally {
    if (session !== null) session.isBusy = false;
  }
}

/** What was found of a partition: its records, or why there are none. */
type Found = { readonly partition: Partition } & FetchRead;

/** One fetch under way. */
class Fetching {
  readonly #open: OpenFetch;
  readonly #context: RequestContext;
  readonly #isolation: Isolation;
  readonly #minBytes: number;
  readonly #maxBytes: number;
  readonly #maxWaitMs: number;

  constructor(asked: Request, open: OpenFetch, context: RequestContext) {
    this.#open = open;
    this.#context = context;
    this.#isolation = asked.isolationLevel === 1 ? 'read_committed' : 'read_uncommitted';
    this.#maxBytes = Math.min(asked.maxBytes, maxAnswerBytes);
    this.#minBytes = Math.min(asked.minBytes, this.#maxBytes);
    this.#maxWaitMs = asked.maxWaitMs;
  }

  /** Reads when there is enough to read, or the time is up. */
  async answer(): Promise<Answer['responses']> {
    if (this.#isEnough() || this.#maxWaitMs <= 0) {
      const found = await this.#read();
      if (this.#maxWaitMs <= 0 || this.#suffices(found)) return this.#answerOf(found);
    }
    const { node, peer } = this.#context;
    const wait = new FetchWait(this.#partitions(), node.broker.clock, this.#maxWaitMs, peer);
    try {
      for (;;) {
        if (wait.isOver || this.#isEnough()) {
          const found = await this.#read();
          if (wait.isOver || this.#suffices(found)) return this.#answerOf(found);
        }
        await wait.change();
      }
    } finally {
      wait.stop();
    }
  }

  /** @throws UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID */
  #partitionOf(fetched: FetchedPartition): Partition {
    const { node, version } = this.#context;
    return findPartition(node.broker, fetched, fetched.partition, version >= idsSince);
  }

  /** Those that there are. */
  #partitions(): Partition[] {
    return [...this.#open.partitions.values()].flatMap((fetched) => {
      try {
        return this.#partitionOf(fetched);
      } catch {
        return [];
      }
    });
  }

  /** Whether there are as many bytes as asked for, or something else to tell; before anything is read. */
  #isEnough(): boolean {
    let bytes = 0;
    for (const fetched of this.#open.partitions.values()) {
      const { ask, place } = fetched;
      try {
        const available = place.available(this.#partitionOf(fetched), ask, this.#isolation);
        bytes += Math.min(available, ask.partitionMaxBytes);
      } catch {
        return true;
      }
    }
    return bytes >= this.#minBytes || this.#open.partitions.size === 0;
  }

  /** Fills the answer from the partitions in their order: the first batch there is may be larger (KIP-74). */
  async #read(): Promise<Map<FetchedPartition, Found | number>> {
    const { answerRoom } = this.#context.node;
    let wanted = 0;
    for (const { ask } of this.#open.partitions.values())
      wanted += Math.max(0, ask.partitionMaxBytes);
    const room = answerRoom.take(Math.min(wanted, this.#maxBytes));
    try {
      return await this.#readUpTo(room);
    } finally {
      answerRoom.giveBack(room);
    }
  }

  async #readUpTo(bytes: number): Promise<Map<FetchedPartition, Found | number>> {
    const { spareBuffers } = this.#context.node;
    const found = new Map<FetchedPartition, Found | number>();
    let left = bytes;
    let takesOne = true;
    for (const fetched of this.#open.partitions.values()) {
      const { ask, place } = fetched;
      const maxBytes = Math.max(0, Math.min(left, ask.partitionMaxBytes));
      try {
        const partition = this.#partitionOf(fetched);
        const read = await place.read(
          partition,
          ask,
          this.#isolation,
          maxBytes,
          takesOne,
          spareBuffers,
        );
        left -= read.records.length;
        if (read.records.length > 0) takesOne = false;
        found.set(fetched, { partition, ...read });
      } catch (error) {
        found.set(fetched, errorNumberOf(error));
      }
    }
    return found;
  }

  #suffices(found: ReadonlyMap<FetchedPartition, Found | number>): boolean {
    let bytes = 0;
    for (const read of found.values()) {
      if (typeof read === 'number' || read.divergingEpoch !== null) return true;
      bytes += read.records.length;
    }
    return bytes >= this.#minBytes || found.size === 0;
  }

  #answerOf(found: ReadonlyMap<FetchedPartition, Found | number>): Answer['responses'] {
    const { session, isIncremental } = this.#open;
    const byTopic = new Map<string, TopicAnswer>();
    for (const [fetched, read] of found) {
      const { topic, topicId, partition: partitionIndex } = fetched;
      const answer = answerFor(partitionIndex, read);
      const hasNews = isNews(fetched, answer);
      const isError = answer.errorCode !== noError;
      const { highWatermark, logStartOffset = -1 } = answer;
      fetched.told = isError ? null : { highWatermark, logStartOffset };
      if (isIncremental && !hasNews) continue;
      const answers = byTopic.get(topic + topicId);
      if (answers === undefined)
        byTopic.set(topic + topicId, { topic, topicId, partitions: [answer] });
      else answers.partitions.push(answer);
      if (session === null || answer.records?.length === 0) continue;
      // The others have their turn first next time.
      const key = keyOf(fetched, partitionIndex);
      if (session.partitions.delete(key)) session.partitions.set(key, fetched);
    }
    return [...byTopic.values()];
  }
}

/** Whether an incremental answer names the partition. */
function isNews({ told }: FetchedPartition, answer: PartitionAnswer): boolean {
  return (
    told === null ||
    answer.records?.length !== 0 ||
    answer.errorCode !== noError ||
    answer.divergingEpoch != null ||
    told.highWatermark !== answer.highWatermark ||
    told.logStartOffset !== answer.logStartOffset
  );
}

function answerFor(partitionIndex: number, read: Found | number): PartitionAnswer {
  if (typeof read === 'number') {
    return {
      partitionIndex,
      errorCode: read,
      highWatermark: -1,
      abortedTransactions: null,
      records: noRecords,
    };
  }
  const { partition, ...rest } = read;
  const { highWatermark, lastStableOffset, logStartOffset } = partition;
  return {
    partitionIndex,
    errorCode: noError,
    highWatermark,
    lastStableOffset,
    logStartOffset,
    ...rest,
  };
}
