import { OttlaError } from '../../errors.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumber, errorNumberOf, noError } from '../protocol/errors.js';
import { array, int16, int32, string } from '../protocol/schema.js';

const request = {
  groupId: string(),
  topics: array({ name: string(), partitions: array({ partitionIndex: int32() }) }),
};

const response = {
  errorCode: int16(),
  throttleTimeMs: int32({ default: 0 }),
  topics: array({
    name: string(),
    partitions: array({ partitionIndex: int32(), errorCode: int16() }),
  }),
};

export const offsetDelete: Api = api({
  key: 47,
  name: 'OffsetDelete',
  versions: [0, 0],
  request,
  response,
  async handle({ groupId, topics }, { node: { broker } }) {
    try {
      broker.groups.refuseUnknown(groupId);
    } catch (error) {
      return { errorCode: errorNumberOf(error), topics: [] };
    }
    const remove = async (topic: string, partition: number): Promise<number> => {
      if (broker.topics.find(topic)?.partitions[partition] === undefined) {
        return errorNumber('UNKNOWN_TOPIC_OR_PARTITION');
      }
      try {
        await broker.groups.deleteOffsets(groupId, [{ topic, partition }]);
      } catch (error) {
        if (error instanceof OttlaError) return errorNumberOf(error);
        throw error;
      }
      return noError;
    };
    return {
      errorCode: noError,
      topics: await Promise.all(
        topics.map(async ({ name, partitions }) => ({
          name,
          partitions: await Promise.all(
            partitions.map(async ({ partitionIndex }) => ({
              partitionIndex,
              errorCode: await remove(name, partitionIndex),
            })),
          ),
        })),
      ),
    };
  },
});
