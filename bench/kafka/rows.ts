import { Admin, Consumer, Producer } from '@platformatic/kafka';
import { accepting, tool, type Peer } from './peers.js';

/** One line of the comparison. */
export interface Row {
  readonly name: string;
  readonly unit: 'records/s' | 'ms' | 'MiB';
  /** Exactly what is measured, and by what. */
  readonly what: string;
  /** Measures one of the two, once. Row and peer make a topic's name that none has. */
  readonly measure: (
    peer: Peer,
    topic: string,
    scaled: (count: number) => number,
  ) => Promise<number>;
}

const client = (peer: Peer): { clientId: string; bootstrapBrokers: string[] } => ({
  clientId: 'bench',
  bootstrapBrokers: [peer.server],
});

async function withTopic<T>(
  peer: Peer,
  topic: string,
  configs: Readonly<Record<string, string>>,
  work: () => Promise<T>,
): Promise<T> {
  const admin = new Admin(client(peer));
  const named = Object.entries(configs).map(([name, value]) => ({ name, value }));
  await admin.createTopics({ topics: [topic], partitions: 1, replicas: 1, configs: named });
  try {
    return await work();
  } finally {
    await admin.deleteTopics({ topics: [topic] });
    await admin.close();
  }
}

async function produce(
  { server }: Peer,
  topic: string,
  count: number,
  size: number,
  acks: string,
): Promise<number> {
  const of = ['--bootstrap-server', server, '--topic', topic];
  const what = ['--num-records', String(count), '--record-size', String(size)];
  const how = ['--throughput', '-1', '--command-property', `acks=${acks}`];
  const printed = await tool('producer-perf-test', ...of, ...what, ...how);
  return Number(new RegExp(`^${count} records sent, ([\\d.]+) records/sec`, 'm').exec(printed)![1]);
}

interface Produced {
  readonly count: number;
  readonly size: number;
  readonly acks: '1' | 'all';
  /** Of Kafka's topic alone. */
  readonly configs?: Readonly<Record<string, string>>;
}

const producing =
  ({ count, size, acks, configs = {} }: Produced): Row['measure'] =>
  (peer, topic, scaled) =>
    withTopic(peer, topic, peer.name === 'kafka' ? configs : {}, () =>
      produce(peer, topic, scaled(count), size, acks),
    );

const consuming =
  (count: number, size: number): Row['measure'] =>
  (peer, topic, scaled) =>
    withTopic(peer, topic, {}, async () => {
      await produce(peer, topic, scaled(count), size, '1');
      const of = ['--bootstrap-server', peer.server, '--topic', topic, '--hide-header'];
      const printed = await tool(
        'consumer-perf-test',
        ...of,
        '--num-records',
        String(scaled(count)),
      );
      // Records a second while it fetches: without the time in which it joins its group.
      return Number(printed.trim().split('\n').at(-1)!.split(', ')[9]);
    });

const endToEnd =
  (acks: string): Row['measure'] =>
  (peer, topic, scaled) =>
    withTopic(peer, topic, {}, async () => {
      const count = String(scaled(5000));
      const printed = await tool('e2e-latency', peer.server, topic, count, acks, '100');
      return Number(/Avg latency: ([\d.]+) ms/.exec(printed)![1]);
    });

/** One record after the other, sent when the one before has arrived: ms from the call to the record. */
const fromNode =
  (share: number): Row['measure'] =>
  (peer, topic, scaled) =>
    withTopic(peer, topic, {}, async () => {
      const producer = new Producer(client(peer));
      const consumer = new Consumer({ ...client(peer), groupId: topic, maxWaitTime: 1000 });
      const stream = await consumer.consume({
        topics: [topic],
        mode: 'earliest',
        autocommit: false,
      });
      const value = Buffer.alloc(100, 'x');
      const durations: number[] = [];
      let began = 0;
      let sent: Promise<unknown> = Promise.resolve();
      const send = (): void => {
        began = performance.now();
        sent = producer.send({ messages: [{ topic, value }], acks: 1 });
      };
      send();
      // The first ones wait for the group, and for code to be compiled.
      let left = scaled(3000) + 200;
      for await (const _ of stream) {
        durations.push(performance.now() - began);
        if (--left === 0) break;
        send();
      }
      // A record may be read before it is acknowledged.
      await sent;
      const closed: unknown = consumer.close(true); // A promise: its types tell only of its callback.
      await Promise.all([closed, producer.close()]);
      const sorted = durations.slice(200).toSorted((a, b) => a - b);
      return sorted[Math.floor(sorted.length * share)]!;
    });

async function producingFromNode(peer: Peer, topic: string, count: number): Promise<number> {
  const producer = new Producer(client(peer));
  const value = Buffer.alloc(100, 'x');
  const messages = Array.from({ length: 1000 }, () => ({ topic, value }));
  const send = (): Promise<unknown> => producer.send({ messages, acks: 1 });
  for (let i = 0; i < 20; i++) await send();
  const began = performance.now();
  let left = Math.ceil(count / messages.length);
  const one = async (): Promise<void> => {
    while (left-- > 0) await send();
  };
  await Promise.all(Array.from({ length: 5 }, one));
  const ms = performance.now() - began;
  await producer.close();
  return (count / ms) * 1000;
}

/** A process that has ended begins again, until a record that was sent to it is acknowledged. */
async function startingUntilFirst(peer: Peer, topic: string): Promise<number> {
  const admin = new Admin(client(peer));
  await admin.createTopics({ topics: [topic], partitions: 1, replicas: 1 });
  await admin.close();
  await peer.stop();
  const began = performance.now();
  const started = peer.start();
  await accepting(Number(peer.server.split(':')[1]));
  const producer = new Producer({ ...client(peer), retries: 1000, retryDelay: 5 });
  await producer.send({ messages: [{ topic, value: Buffer.from('first') }], acks: 1 });
  const ms = performance.now() - began;
  await producer.close();
  await started;
  return ms;
}

export const rows: readonly Row[] = [
  {
    name: 'start until a record is acknowledged',
    unit: 'ms',
    what: 'the process is started with its data; @platformatic/kafka sends one record',
    measure: startingUntilFirst,
  },
  ...(['1', 'all'] as const).flatMap((acks): Row[] =>
    [
      { size: 100, count: 1_000_000 },
      { size: 1024, count: 300_000 },
    ].map(({ size, count }) => ({
      name: `produce ${size} B, acks ${acks}`,
      unit: 'records/s',
      what: `kafka-producer-perf-test, ${count} records of ${size} bytes`,
      measure: producing({ size, count, acks }),
    })),
  ),
  {
    name: 'produce 100 B, acks all, both synced',
    unit: 'records/s',
    what: 'the same, 200000 records, and Kafka’s topic has flush.messages=1: it syncs each batch, as Ottla does for acks all',
    measure: producing({
      size: 100,
      count: 200_000,
      acks: 'all',
      configs: { 'flush.messages': '1' },
    }),
  },
  {
    name: 'produce 100 B from Node, acks 1',
    unit: 'records/s',
    what: '@platformatic/kafka, batches of 1000 records, 5 in flight',
    measure: (peer, topic, scaled) =>
      withTopic(peer, topic, {}, () => producingFromNode(peer, topic, scaled(300_000))),
  },
  ...[
    { size: 100, count: 2_000_000 },
    { size: 1024, count: 500_000 },
  ].map(({ size, count }): Row => ({
    name: `consume ${size} B`,
    unit: 'records/s',
    what: `kafka-consumer-perf-test, ${count} records of ${size} bytes, while it fetches`,
    measure: consuming(count, size),
  })),
  ...['1', 'all'].map((acks): Row => ({
    name: `end to end, acks ${acks}, mean`,
    unit: 'ms',
    what: 'kafka-e2e-latency, 5000 records of 100 bytes, one after the other',
    measure: endToEnd(acks),
  })),
  ...[0.5, 0.99].map((share): Row => ({
    name: `end to end from Node, acks 1, p${share * 100}`,
    unit: 'ms',
    what: '@platformatic/kafka, 3000 records of 100 bytes, from send() to the record read',
    measure: fromNode(share),
  })),
];
