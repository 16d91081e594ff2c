import { Ottla, type Consumer } from 'ottla';
import {
  oneByOne,
  records,
  timed,
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

const partitionsPerMember = 10;

/** Of a group in memory, all of whose members wait for records: one more joins, until all are ready. */
function rebalance(memberCount: number): Row {
  const partitions = memberCount * partitionsPerMember;
  return {
    name: `group rebalance, ${memberCount} members`,
    unit: 'partitions',
    what: `${memberCount} members in memory wait for records of ${partitions} partitions, one more joins by 'range': until all are ready; floor: a Map with an entry for each partition`,
    prepare: async () => {
      const ottla = Ottla.memory();
      await ottla.topics.create('bench', { partitions });
      const memberOf = (): Consumer => ottla.consumer({ group: 'bench', topics: ['bench'] });
      const members = Array.from({ length: memberCount }, memberOf);
      const allReady = (): Promise<unknown> => Promise.all(members.map((each) => each.ready()));
      await allReady();
      for (const member of members) void member[Symbol.asyncIterator]().next();
      const run = async (): Promise<Measured> => {
        const more = memberOf();
        const measured = await timed(partitions, async () => {
          await Promise.all([more.ready(), allReady()]);
        });
        await more.close();
        await allReady();
        return measured;
      };
      const floor = (): Promise<Measured> =>
        timed(partitions, () => {
          const owners = new Map<string, number>();
          for (let i = 0; i < partitions; i++) owners.set(`bench/${i}`, i);
        });
      return { run, floor, close: () => ottla.close() };
    },
  };
}

/** One call for each partition of a consumer of many. */
const positions: Row = {
  name: 'consumer of 5000 partitions',
  unit: 'calls',
  what: 'seek(), pause(), resume() and position() of each partition of a consumer in memory; floor: a Map asked for each',
  prepare: async () => {
    const partitions = 5000;
    const ottla = Ottla.memory();
    await ottla.topics.create('bench', { partitions });
    const consumer = ottla.consumer({ group: 'bench', topics: ['bench'], autoCommit: false });
    await consumer.ready();
    const places = consumer.assignment();
    const known = new Map(places.map(({ partition }) => [`bench/${partition}`, partition]));
    const run = (): Promise<Measured> =>
      timed(partitions * 4, async () => {
        for (const at of places) {
          await consumer.seek({ ...at, offset: 0 });
          consumer.pause([at]);
          consumer.resume([at]);
          consumer.position(at);
        }
      });
    const floor = (): Promise<Measured> =>
      timed(partitions * 4, () => {
        for (let i = 0; i < partitions * 4; i++) known.get(`bench/${i % partitions}`);
      });
    return { run, floor, close: () => ottla.close() };
  },
};

/** One record at a time, to a consumer in memory that waits for it. */
async function oneRecordAtATime(partitions: number): Promise<Omit<Subject, 'floor'>> {
  const ottla = Ottla.memory();
  await ottla.topics.create('bench', { partitions });
  const consumer = ottla.consumer({ group: 'bench', topics: ['bench'], autoCommit: false });
  await consumer.ready();
  const producer = ottla.producer({ acks: 1 });
  const iterator = consumer[Symbol.asyncIterator]();
  let next = iterator.next();
  const send = async (): Promise<void> => {
    // A few partitions only: what opening the others costs is another row's.
    for (let i = 0; i < 1000; i++) {
      await producer.send('bench', { value: 'x', partition: i % 10 });
      await next;
      next = iterator.next();
    }
  };
  return { run: () => timed(1000, send), close: () => ottla.close() };
}

/** Beside one of few: the others must not be looked at for each record. */
const among: Row = {
  name: 'consumer of 5000 partitions, one record',
  unit: 'records',
  what: 'records sent one at a time to 10 of the partitions of a consumer in memory that waits; floor: the same with a consumer of those 10 partitions alone',
  prepare: async () => {
    const [many, few] = [await oneRecordAtATime(5000), await oneRecordAtATime(10)];
    return {
      run: many.run,
      floor: few.run,
      close: async () => {
        await many.close?.();
        await few.close?.();
      },
    };
  },
};

export const rows: readonly Row[] = [
  {
    name: 'group join',
    unit: 'joins',
    goal: { mostMs: 5 },
    what: 'a third member joins two others: from next() to its first record, median; floor: setImmediate, median',
    prepare: join,
  },
  {
    name: 'group hand-over',
    unit: 'hand-overs',
    goal: { mostMs: 5 },
    what: 'one of two members closes: from close() to the first record of its partition at the other, median; floor: setImmediate, median',
    prepare: handOver,
  },
  rebalance(100),
  rebalance(1000),
  positions,
  among,
];
