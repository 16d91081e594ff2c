import { answerOf, nameOfTopic, offsetsOf } from '../committed-topics.js';
import { coordinatorErrorNumberOf } from '../coordinator-errors.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumber } from '../protocol/errors.js';
import { array, int16, int32, int64, string, uuid } from '../protocol/schema.js';

const request = {
  groupId: string(),
  generationIdOrMemberEpoch: int32({ since: 1, default: -1 }),
  memberId: string({ since: 1 }),
  groupInstanceId: string({ since: 7, nullable: 7 }),
  retentionTimeMs: int64({ since: 2, until: 4 }),
  topics: array({
    name: string({ until: 9 }),
    topicId: uuid({ since: 10 }),
    partitions: array({
      partitionIndex: int32(),
      committedOffset: int64(),
      committedLeaderEpoch: int32({ since: 6, default: -1 }),
      committedMetadata: string({ nullable: 0 }),
    }),
  }),
};

const response = {
  throttleTimeMs: int32({ since: 3, default: 0 }),
  topics: array({
    name: string({ until: 9 }),
    topicId: uuid({ since: 10 }),
    partitions: array({ partitionIndex: int32(), errorCode: int16() }),
  }),
};

export const offsetCommit: Api = api({
  key: 8,
  name: 'OffsetCommit',
  versions: [2, 10],
  flexible: 8,
  request,
  response,
  async handle(asked, { node: { broker }, version }) {
    const { groupId, memberId, groupInstanceId } = asked;
    const generationId = asked.generationIdOrMemberEpoch;
    const topics =
      version < 10
        ? asked.topics
        : asked.topics.map((topic) => ({ ...topic, name: nameOfTopic(broker, topic.topicId) }));
    const offsets = offsetsOf(topics);
    let errorCodes: number[];
    try {
      const from = { groupId, memberId, groupInstanceId, generationId };
      const results = await broker.groups.commit({ ...from, offsets });
      errorCodes = results.map((error, i) => {
        const isUnknownId = error === 'UNKNOWN_TOPIC_OR_PARTITION' && offsets[i]!.topic === '';
        return errorNumber(isUnknownId ? 'UNKNOWN_TOPIC_ID' : error);
      });
    } catch (error) {
      errorCodes = offsets.map(() => coordinatorErrorNumberOf(error));
    }
    return { topics: answerOf(topics, errorCodes) };
  },
});
