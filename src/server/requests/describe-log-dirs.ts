import { OttlaError } from '../../errors.js';
import type { Partition } from '../../partition.js';
import type { Topic } from '../../topic.js';
import { api, type Api } from '../protocol/api.js';
import { noError } from '../protocol/errors.js';
import {
  array,
  arrayOf,
  bool,
  int16,
  int32,
  int64,
  string,
  type Encodable,
} from '../protocol/schema.js';

const request = {
  topics: array({ topic: string(), partitions: arrayOf(int32()) }, { nullable: 0 }),
};

const log = {
  partitionIndex: int32(),
  partitionSize: int64(),
  offsetLag: int64({ default: 0 }),
  isFutureKey: bool({ default: false }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  errorCode: int16({ since: 3, default: noError }),
  results: array({
    errorCode: int16(),
    logDir: string(),
    topics: array({ name: string(), partitions: array(log) }),
    totalBytes: int64({ since: 4, default: -1 }),
    usableBytes: int64({ since: 4, default: -1 }),
    isCordoned: bool({ since: 5, default: false }),
  }),
};

/** There is one directory. How much its disk holds is not told. */
export const describeLogDirs: Api = api({
  key: 35,
  name: 'DescribeLogDirs',
  versions: [1, 5],
  flexible: 2,
  request,
  response,
  handle({ topics }, { node: { broker } }) {
    const asked: [Topic, readonly Partition[]][] = [];
    if (topics === null) {
      for (const topic of broker.topics.all()) asked.push([topic, topic.partitions]);
    }
    for (const { topic: name, partitions } of topics ?? []) {
      const topic = broker.topics.find(name);
      if (topic === undefined) continue;
      asked.push([topic, topic.partitions.filter(({ index }) => partitions.includes(index))]);
    }
    const found = asked.map(([{ name }, partitions]) => ({
      name,
      partitions: partitions.flatMap(describe),
    }));
    return {
      results: [
        {
          errorCode: noError,
          logDir: broker.directory,
          topics: found.filter(({ partitions }) => partitions.length > 0),
        },
      ],
    };
  },
});

/** A log that cannot be opened is not told of. */
function describe(partition: Partition): Encodable<typeof log>[] {
  try {
    partition.open();
    return [{ partitionIndex: partition.index, partitionSize: partition.bytes }];
  } catch (error) {
    if (error instanceof OttlaError) return [];
    throw error;
  }
}
