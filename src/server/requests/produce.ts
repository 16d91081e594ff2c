import { RecordsRefused } from '../../admission.js';
import { OttlaError } from '../../errors.js';
import { findPartition } from '../topic-lookup.js';
import { WireAppend } from '../append.js';
import { api, type Api, type RequestContext } from '../protocol/api.js';
import { errorNumber, errorNumberOf, noError, WireError } from '../protocol/errors.js';
import { HangUp } from '../protocol/reader.js';
import {
  array,
  int16,
  int32,
  int64,
  records,
  string,
  struct,
  uuid,
  type Decoded,
  type Encodable,
} from '../protocol/schema.js';

const request = {
  transactionalId: string({ nullable: 3, default: null }),
  acks: int16(),
  timeoutMs: int32(),
  topicData: array({
    name: string({ until: 12 }),
    topicId: uuid({ since: 13 }),
    partitionData: array({
      index: int32(),
      records: records({ nullable: 0 }),
    }),
  }),
};

const partitionResponse = {
  index: int32(),
  errorCode: int16(),
  baseOffset: int64({ default: -1 }),
  logAppendTimeMs: int64({ default: -1 }),
  logStartOffset: int64({ since: 5, default: -1 }),
  recordErrors: array(
    { batchIndex: int32(), batchIndexErrorMessage: string({ nullable: 8, default: null }) },
    { since: 8, default: [] },
  ),
  errorMessage: string({ since: 8, nullable: 8, default: null }),
  currentLeader: struct(
    { leaderId: int32({ default: -1 }), leaderEpoch: int32({ default: -1 }) },
    { since: 10, tag: 0 },
  ),
};

const response = {
  responses: array({
    name: string({ until: 12 }),
    topicId: uuid({ since: 13 }),
    partitionResponses: array(partitionResponse),
  }),
  throttleTimeMs: int32({ default: 0 }),
  nodeEndpoints: array(
    {
      nodeId: int32(),
      host: string(),
      port: int32(),
      rack: string({ nullable: 10, default: null }),
    },
    { since: 10, tag: 0, default: [] },
  ),
};

/** From this version on topics are named by their ids (KIP-516). */
const idsSince = 13;

type Answer = Encodable<typeof response>;
type PartitionAnswer = Encodable<typeof partitionResponse>;

export const produce: Api = api({
  key: 0,
  name: 'Produce',
  versions: [3, 13],
  flexible: 9,
  overlaps: true,
  request,
  response,
  handle,
});

function handle(
  { transactionalId, acks, timeoutMs, topicData }: Decoded<typeof request>,
  context: RequestContext,
): Answer | null | Promise<Answer | null> {
  if (acks < -1 || acks > 1) return refuseAll(topicData, errorNumber('INVALID_REQUIRED_ACKS'));
  const { broker } = context.node;
  const isById = context.version >= idsSince;
  const terms = { version: context.version, transactionalId, transactions: broker.transactions };
  const topics = topicData.map(({ name, topicId, partitionData }) => ({
    name,
    topicId,
    appends: partitionData.map(({ index, records: sent }) => {
      const append = new WireAppend(index, acks === -1);
      try {
        const partition = findPartition(broker, { topic: name, topicId }, index, isById);
        append.begin(partition, sent, terms);
      } catch (error) {
        if (!(error instanceof OttlaError || error instanceof WireError)) throw error;
        append.failed(error);
      }
      return append;
    }),
  }));
  const appends = topics.flatMap((topic) => topic.appends);
  const answer = (): Answer | null => {
    if (acks !== 0) {
      const responses = topics.map(({ name, topicId, appends: ofTopic }) => ({
        name,
        topicId,
        partitionResponses: ofTopic.map(answerOf),
      }));
      return { responses };
    }
    // Who asks for no answer learns only so that something is amiss.
    if (appends.some(({ error }) => error !== null)) throw new HangUp('a batch was refused');
    return null;
  };
  const pending = appends.filter(({ isSettled }) => !isSettled);
  if (pending.length === 0) return answer();
  return settled(pending, timeoutMs, context).then(answer);
}

/** Resolves when all of them are settled, at the latest by failing after so many ms. */
function settled(
  pending: readonly WireAppend[],
  timeoutMs: number,
  { node }: RequestContext,
): Promise<void> {
  return new Promise((resolve) => {
    let left = pending.length;
    const timer = node.broker.clock.after(Math.max(0, timeoutMs), () => {
      const error = new OttlaError('REQUEST_TIMED_OUT', `not durable after ${timeoutMs} ms`);
      for (const append of pending) append.timedOut(error);
    });
    for (const append of pending) {
      append.onSettled = () => {
        left--;
        if (left > 0) return;
        timer.cancel();
        resolve();
      };
    }
  });
}

function answerOf(append: WireAppend): PartitionAnswer {
  const { index, error, baseOffset, logAppendTimeMs, logStartOffset } = append;
  if (error === null) {
    return { index, errorCode: noError, baseOffset, logAppendTimeMs, logStartOffset };
  }
  const refused = error instanceof RecordsRefused ? error.records : [];
  return {
    index,
    errorCode: errorNumberOf(error),
    errorMessage: error.message,
    recordErrors: refused.map(({ index: batchIndex, reason }) => ({
      batchIndex,
      batchIndexErrorMessage: reason,
    })),
  };
}

function refuseAll(topicData: Decoded<typeof request>['topicData'], errorCode: number): Answer {
  return {
    responses: topicData.map(({ name, topicId, partitionData }) => ({
      name,
      topicId,
      partitionResponses: partitionData.map(({ index }) => ({ index, errorCode })),
    })),
  };
}
