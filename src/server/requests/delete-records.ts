import { api, type Api } from '../protocol/api.js';
import { errorNumberOf, noError } from '../protocol/errors.js';
import { array, int16, int32, int64, string } from '../protocol/schema.js';

const request = {
  topics: array({
    name: string(),
    partitions: array({
      partitionIndex: int32(),
      offset: int64(),
    }),
  }),
  timeoutMs: int32(),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  topics: array({
    name: string(),
    partitions: array({
      partitionIndex: int32(),
      lowWatermark: int64(),
      errorCode: int16(),
    }),
  }),
};

/** Up to the high watermark. */
const all = -1;

export const deleteRecords: Api = api({
  key: 21,
  name: 'DeleteRecords',
  versions: [0, 2],
  flexible: 2,
  request,
  response,
  async handle({ topics }, { node: { broker } }) {
    const answers = [];
    for (const { name, partitions } of topics) {
      const deleted = [];
      for (const { partitionIndex, offset } of partitions) {
        const at = { topic: name, partition: partitionIndex };
        try {
          const before = offset === all ? broker.topics.partition(at).highWatermark : offset;
          const lowWatermark = await broker.deleteRecords(at, before);
          deleted.push({ partitionIndex, lowWatermark, errorCode: noError });
        } catch (error) {
          deleted.push({ partitionIndex, lowWatermark: -1, errorCode: errorNumberOf(error) });
        }
      }
      answers.push({ name, partitions: deleted });
    }
    return { topics: answers };
  },
});
