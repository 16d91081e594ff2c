import { Ottla, type Consumer } from 'ottla';
import {
  oneByOne,
  records,
  type Measured,
  type Row,
  type Setting,
  type Subject,
} from './harness.js';

/** Members, closed in the end, of groups on a topic 'bench' that has records in each partition. */
async function opened({ directory }: Setting, partitions: number): Promise<Ottla> {
  const ottla = await Ottla.open(directory);
  await ottla.topics.create('bench', { partitions });
  const producer = ottla.producer({ acks: 1 });
  await producer.sendBatch(
    'bench',
    records.map((record, i) => ({ ...record, partition: i % partitions })),
  );
  await producer.flush();
  return ottla;
}

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** From joining a group of two to the first record of what is the third's. */
async function join(setting: Setting): Promise<Subject> {
  const ottla = await opened(setting, 3);
  const count = setting.scaled(200);
  let members: Consumer[] = [];
  let group = 0;
  const member = (): Consumer => {
    const consumer = ottla.consumer({ group: `bench-${group}`, topics: ['bench'] });
    members.push(consumer);
    return consumer;
  };
  const before = async (): Promise<void> => {
    await Promise.all(members.map((each) => each.close()));
    members = [];
    group++;
    await Promise.all([member().ready(), member().ready()]);
  };
  const run = (): Promise<Measured> =>
    oneByOne(count, () => member()[Symbol.asyncIterator]().next(), before);
  return { run, floor: () => oneByOne(count, turn), close: () => ottla.close() };
}

/** From one member's close() to the other's first record of the partition that was the first one's. */
async function handOver(setting: Setting): Promise<Subject> {
  const ottla = await opened(setting, 2);
  const count = setting.scaled(200);
  let group = 0;
  let [stays, goes]: Consumer[] = [];
  let next: Promise<unknown> = Promise.resolve();
  const before = async (): Promise<void> => {
    await stays?.close();
    const options = {
      group: `bench-${group++}`,
      topics: ['bench'],
      from: 'latest',
      autoCommit: false,
    } as const;
    [stays, goes] = [ottla.consumer(options), ottla.consumer(options)];
    await Promise.all([stays.ready(), goes.ready()]);
    const [moving] = goes.assignment();
    // Behind what the one that stays has read: there the first record of the partition that moves is next.
    await goes.commit([{ ...moving!, offset: 0 }]);
    next = stays[Symbol.asyncIterator]().next();
    await turn();
  };
  const run = (): Promise<Measured> =>
    oneByOne(count, () => Promise.all([goes!.close(), next]), before);
  return { run, floor: () => oneByOne(count, turn), close: () => ottla.close() };
}

export const rows: readonly Row[] = [
  {
    name: 'group join',
    unit: 'joins',
    what: 'a third member joins two others: from next() to its first record, median; floor: setImmediate, median',
    prepare: join,
  },
  {
    name: 'group hand-over',
    unit: 'hand-overs',
    what: 'one of two members closes: from close() to the first record of its partition at the other, median; floor: setImmediate, median',
    prepare: handOver,
  },
];
