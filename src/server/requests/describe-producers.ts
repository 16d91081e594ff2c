import type { Partition } from '../../partition.js';
import { OttlaError } from '../../errors.js';
import { firsts } from '../firsts.js';
import { api, type Api } from '../protocol/api.js';
import { errorNumberOf, noError } from '../protocol/errors.js';
import {
  array,
  arrayOf,
  bigint64,
  int16,
  int32,
  int64,
  string,
  type Encodable,
} from '../protocol/schema.js';

const request = {
  topics: array({
    name: string(),
    partitionIndexes: arrayOf(int32()),
  }),
};

const producer = {
  producerId: bigint64(),
  producerEpoch: int32(),
  lastSequence: int32({ default: -1 }),
  lastTimestamp: int64({ default: -1 }),
  coordinatorEpoch: int32(),
  currentTxnStartOffset: int64({ default: -1 }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  topics: array({
    name: string(),
    partitions: array({
      partitionIndex: int32(),
      errorCode: int16(),
      errorMessage: string({ nullable: 0, default: null }),
      activeProducers: array(producer),
    }),
  }),
};

export const describeProducers: Api = api({
  key: 61,
  name: 'DescribeProducers',
  versions: [0, 0],
  flexible: 0,
  request,
  response,
  handle({ topics }, { node }) {
    const isFirst = firsts();
    return {
      topics: topics.map(({ name, partitionIndexes }) => ({
        name,
        partitions: partitionIndexes
          .filter((index) => isFirst(`${index} ${name}`))
          .map((partitionIndex) => {
            try {
              const partition = node.broker.topics.partition({
                topic: name,
                partition: partitionIndex,
              });
              return {
                partitionIndex,
                errorCode: noError,
                activeProducers: producersOf(partition),
              };
            } catch (error) {
              const errorCode = errorNumberOf(error);
              const errorMessage = error instanceof OttlaError ? error.message : null;
              return { partitionIndex, errorCode, errorMessage, activeProducers: [] };
            }
          }),
      })),
    };
  },
});

function producersOf(partition: Partition): Encodable<typeof producer>[] {
  return [...partition.producers.describe()].map((known) => ({
    producerId: known.producerId,
    producerEpoch: known.epoch,
    lastSequence: known.lastSequence,
    lastTimestamp: known.timestamp,
    coordinatorEpoch: known.coordinatorEpoch,
    currentTxnStartOffset: known.firstOffset,
  }));
}
