import { apis } from '../src/server/apis.js';
import { Reader } from '../src/server/protocol/reader.js';
import { Writer } from '../src/server/protocol/writer.js';
import { timed, type Row } from './harness.js';

type Message = Readonly<Record<string, unknown>>;

const batch = Buffer.alloc(16 * 1024, 1);
const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

let sum = 0;

function written(
  coder: { write(writer: Writer, message: Message): void },
  message: Message,
): Buffer[] {
  const writer = new Writer();
  coder.write(writer, message);
  return writer.finish();
}

/** A request is read and its answer written, as a server does between its two frames. */
function row(name: string, version: number, what: string, asked: Message, answer: Message): Row {
  return {
    name: `wire ${name}`,
    unit: 'requests',
    what: `${what}: the request's body read, the answer's written; floor: both copied`,
    async prepare({ scaled }) {
      const api = [...apis.values()].find((each) => each.name === name)!;
      const [reads, writes] = [api.request(version), api.response(version)];
      const question = Buffer.concat(written(reads, asked));
      const reply = Buffer.concat(written(writes, answer));
      const count = scaled(200_000);
      return {
        run: () =>
          timed(count, () => {
            for (let i = 0; i < count; i++) {
              reads.read(new Reader(question));
              sum += written(writes, answer).length;
            }
          }),
        floor: () =>
          timed(count, () => {
            for (let i = 0; i < count; i++) {
              sum += Buffer.from(question).length + Buffer.from(reply).length;
            }
          }),
      };
    },
  };
}

const topicId = 'AAAAAAAAAAAAAAAAAAAAAQ';

export const rows: readonly Row[] = [
  row(
    'Metadata',
    12,
    '4 topics of 12 partitions',
    { topics: numbers(4).map((i) => ({ topicId, name: `topic-${i}` })) },
    {
      brokers: [{ nodeId: 1, host: 'localhost', port: 9092 }],
      clusterId: topicId,
      topics: numbers(4).map((i) => ({
        errorCode: 0,
        name: `topic-${i}`,
        topicId,
        partitions: numbers(12).map((partitionIndex) => ({
          errorCode: 0,
          partitionIndex,
          leaderId: 1,
          leaderEpoch: 0,
          replicaNodes: [1],
          isrNodes: [1],
        })),
      })),
    },
  ),
  row(
    'Produce',
    12,
    '4 batches of 16 KiB',
    {
      acks: -1,
      timeoutMs: 30_000,
      topicData: [
        { name: 'topic', partitionData: numbers(4).map((index) => ({ index, records: batch })) },
      ],
    },
    {
      responses: [
        {
          name: 'topic',
          partitionResponses: numbers(4).map((index) => ({ index, errorCode: 0, baseOffset: 1e6 })),
        },
      ],
    },
  ),
  row(
    'Fetch',
    12,
    '4 partitions, 16 KiB of each',
    {
      maxWaitMs: 500,
      minBytes: 1,
      topics: [
        {
          topic: 'topic',
          partitions: numbers(4).map((partition) => ({
            partition,
            fetchOffset: 1e6,
            partitionMaxBytes: 2 ** 20,
          })),
        },
      ],
      forgottenTopicsData: [],
    },
    {
      responses: [
        {
          topic: 'topic',
          partitions: numbers(4).map((partitionIndex) => ({
            partitionIndex,
            errorCode: 0,
            highWatermark: 1e6,
            abortedTransactions: null,
            records: batch,
          })),
        },
      ],
    },
  ),
];
