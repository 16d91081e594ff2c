import { describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { OttlaError } from '../src/errors.js';
import { put } from '../src/storage/meta-store.js';
import type { ProducerIdentity } from '../src/transaction.js';
import { committedIn } from './committed-records.js';
import { failureOf } from './contract.js';
import { DyingMachine } from './dying-machine.js';
import { FaultyMachine } from './faulty-machine.js';
import { Machine, append, batchOf, createTopic, partitionOf } from './machine.js';
import { numberedBatch } from './numbered.js';

/** One producer's transactions over partitions 0 and 1 of topic t, with offsets of partition 2. */
class Work {
  readonly #broker: Broker;
  identity: ProducerIdentity | null = null;
  #sequences = [0, 0];

  constructor(broker: Broker) {
    this.#broker = broker;
  }

  async init(): Promise<void> {
    this.identity = await this.#broker.transactions.init('a', 60_000);
    this.#sequences = [0, 0];
  }

  async send(partition: 0 | 1, value: string): Promise<void> {
    const log = partitionOf(this.#broker, partition);
    this.#broker.transactions.add('a', this.identity!, log);
    const baseSequence = this.#sequences[partition]!++;
    const timestamp = this.#broker.clock.now();
    const origin = { ...this.identity!, baseSequence, isTransactional: true, timestamp };
    await append(log, numberedBatch([value], origin));
  }

  sendOffset(offset: number): void {
    const log = partitionOf(this.#broker, 2);
    const at = { topicId: log.topicId, partition: 2, offset, leaderEpoch: 0, metadata: '' };
    this.#broker.transactions.addOffsets('a', this.identity!, {
      group: 'g',
      offsets: [at],
      check: () => undefined,
    });
  }

  async end(isCommit: boolean): Promise<void> {
    await this.#broker.transactions.end('a', this.identity!, isCommit);
  }

  /** Round n writes n to both partitions, and commits offset n. */
  async round(n: number, isCommit = true): Promise<void> {
    await this.send(0, `${n}`);
    await this.send(1, `${n}`);
    this.sendOffset(n);
    await this.end(isCommit);
  }
}

const ioError = Object.assign(new Error('EIO'), { code: 'EIO' });

interface State {
  readonly values: readonly string[][];
  readonly offset: number | undefined;
}

async function stateOf(broker: Broker): Promise<State> {
  const partitions = [0, 1].map((index) => partitionOf(broker, index));
  for (const partition of partitions) {
    expect(partition.lastStableOffset).toBe(partition.highWatermark);
  }
  const values = await Promise.all(partitions.map(committedIn));
  const { topicId } = partitions[0]!;
  return { values, offset: broker.offsets.fetch('g', topicId, 2)?.offset };
}

async function prepared(machine: Machine): Promise<{ broker: Broker; work: Work }> {
  const broker = await machine.open();
  await createTopic(broker, {}, 3);
  await append(partitionOf(broker, 2), batchOf(['in', 'in', 'in', 'in']));
  const work = new Work(broker);
  await work.init();
  await work.round(1);
  return { broker, work };
}

const before: State = { values: [['1'], ['1']], offset: 1 };
const after: State = {
  values: [
    ['1', '2'],
    ['1', '2'],
  ],
  offset: 2,
};

describe('f25 a kill during a transaction', () => {
  it.each([
    ['that commits', true],
    ['that aborts', false],
  ])('%s, at each of its changes, leaves all of it or nothing', async (_name, isCommit) => {
    let seen = '';
    for (let changes = 0; ; changes++) {
      const machine = new DyingMachine(false);
      const { work } = await prepared(machine);
      machine.left = changes;
      machine.asked = 0;
      const done = await work.round(2, isCommit).then(
        () => true,
        () => false,
      );
      await machine.clock.settle();
      const wasReached = machine.asked > changes;
      machine.left = Infinity;
      const broker = await machine.open();
      const state = await stateOf(broker);
      expect([before, after]).toContainEqual(state);
      const isThere = state.offset === 2;
      // What was acknowledged holds; what was to be aborted never is there.
      const allowed = !isCommit ? [false] : done ? [true] : [false, true];
      expect(allowed).toContain(isThere);
      seen += isThere ? 'c' : 'a';
      const again = new Work(broker);
      await again.init();
      await again.round(3);
      const { values } = await stateOf(broker);
      expect(values[0]!.at(-1)).toBe('3');
      await expectSameAfterOpen(machine, broker);
      if (!wasReached) break;
    }
    // Two records; the row that decides; two markers.
    expect(seen).toBe(isCommit ? 'aaaccc' : 'aaaaa');
  });

  it('after it was acknowledged, at each change of forgetting it, changes nothing', async () => {
    for (let changes = 0; ; changes++) {
      const machine = new DyingMachine(false);
      const { broker, work } = await prepared(machine);
      await work.round(2);
      machine.left = changes;
      machine.asked = 0;
      await machine.clock.advance(2000);
      const wasReached = machine.asked > changes;
      machine.left = Infinity;
      const [row] = [...machine.store.range(['transaction'])];
      expect(row!.value.decision === null).toBe(!wasReached);
      expect(await stateOf(broker)).toEqual(after);
      expect(await stateOf(await machine.open())).toEqual(after);
      if (!wasReached) break;
    }
  });

  it('and another one while the next open rolls it forward, at each change, costs nothing', async () => {
    for (let changes = 0; ; changes++) {
      const machine = new DyingMachine(false);
      const { work } = await prepared(machine);
      machine.asked = 0;
      // Up to the row that decides.
      machine.left = 3;
      await work.round(2);
      machine.left = changes;
      machine.asked = 0;
      await machine.open().catch(() => undefined);
      const wasReached = machine.asked > changes;
      machine.left = Infinity;
      const broker = await machine.open();
      expect(await stateOf(broker)).toEqual(after);
      if (!wasReached) break;
    }
  });

  it('while another producer fences it leaves nothing of it', async () => {
    for (let changes = 0; ; changes++) {
      const machine = new DyingMachine(false);
      const { broker, work } = await prepared(machine);
      await work.send(0, '2');
      machine.left = changes;
      machine.asked = 0;
      await broker.transactions.init('a', 60_000).catch(() => undefined);
      const wasReached = machine.asked > changes;
      machine.left = Infinity;
      const reopened = await machine.open();
      expect(await stateOf(reopened)).toEqual(before);
      const next = new Work(reopened);
      await next.init();
      await next.round(2);
      expect(await stateOf(reopened)).toEqual(after);
      if (!wasReached) break;
    }
  });
});

async function expectSameAfterOpen(machine: Machine, broker: Broker): Promise<void> {
  const state = await stateOf(broker);
  expect(await stateOf(await machine.open())).toEqual(state);
}

describe('one failure during a transaction', () => {
  it('at each of its changes, is a commit that counts or one that can be aborted', async () => {
    for (let changes = 0; ; changes++) {
      const machine = new DyingMachine(true);
      const { broker, work } = await prepared(machine);
      machine.left = changes;
      machine.asked = 0;
      const done = await work.round(2).then(
        () => true,
        () => false,
      );
      const wasReached = machine.asked > changes;
      if (!done) await broker.transactions.end('a', work.identity!, false, true);
      // A marker that could not be written is written later.
      await machine.clock.advance(2000);
      expect(await stateOf(broker)).toEqual(done ? after : before);
      const next = new Work(broker);
      await next.init();
      await next.round(3);
      expect((await stateOf(broker)).offset).toBe(3);
      await expectSameAfterOpen(machine, broker);
      if (!wasReached) break;
    }
  });
});

describe('the order of a commit', () => {
  it('is logs, row, markers; then markers durable, then the row forgets', async () => {
    const machine = new FaultyMachine();
    const { work } = await prepared(machine);
    await machine.clock.advance(2000);
    machine.log.length = 0;
    await work.round(2);
    const log = machine.log.map((call) =>
      call.replace(/ \/t-(\d).*/, ' $1').replace(' 0000', ' 0 0000'),
    );
    const kinds = log.map((call) => call.split(' ').slice(0, 2).join(' '));
    const row = log.findIndex((call) => call === 'write rows transaction offset');
    expect(kinds.slice(0, row).filter((call) => call.startsWith('write'))).toHaveLength(2);
    expect(kinds.slice(0, row).filter((call) => call.startsWith('sync '))).toHaveLength(2);
    expect(kinds.slice(row + 1).every((call) => call.startsWith('write '))).toBe(true);
    expect(kinds.slice(row + 1)).toHaveLength(2);
    machine.log.length = 0;
    await machine.clock.advance(2000);
    expect(machine.log.at(-1)).toBe('write rows transaction');
    expect(machine.log.filter((call) => call.startsWith('sync '))).toHaveLength(2);
  });

  it('lets the next transaction of the producer make the markers durable', async () => {
    const machine = new FaultyMachine();
    const { work } = await prepared(machine);
    await work.round(2);
    machine.log.length = 0;
    await work.round(3);
    expect(machine.log.filter((call) => call.startsWith('write rows'))).toEqual([
      'write rows transaction offset',
    ]);
  });
});

describe('a decision', () => {
  it('whose log is shorter than its end is corruption, and rolls nothing forward there', async () => {
    const machine = new Machine();
    const { broker, work } = await prepared(machine);
    const { topicId } = partitionOf(broker);
    await work.send(0, '2');
    await work.send(1, '2');
    const [row] = [...machine.store.range(['transaction'])];
    const partitions = [0, 1].map((partition) => ({
      topicId,
      partition,
      firstOffset: 2,
      endOffset: partition === 0 ? 4 : 3,
    }));
    await machine.store.write([put(row!.key, { ...row!.value, decision: { partitions } })]);
    const reopened = await machine.open();
    expect(partitionOf(reopened, 0).failure).toMatchObject({ code: 'CORRUPT_MESSAGE' });
    expect(partitionOf(reopened, 0).lastStableOffset).toBe(2);
    expect(await committedIn(partitionOf(reopened, 1))).toEqual(['1', '2']);
    const failure = await failureOf(() => reopened.reopen({ topic: 't', partition: 0 }));
    expect(failure).toBeInstanceOf(OttlaError);
    expect(partitionOf(reopened, 0).lastStableOffset).toBe(2);
  });

  it('of a topic that was deleted is nothing to do', async () => {
    const machine = new DyingMachine(false);
    const { work } = await prepared(machine);
    machine.left = 3;
    await work.round(2);
    machine.left = Infinity;
    const broker = await machine.open();
    await broker.topics.delete('t');
    expect((await machine.open()).recovery).toEqual([]);
  });
});

describe('a partition that was cut', () => {
  it('while a transaction was open fails its commit', async () => {
    const machine = new FaultyMachine();
    const { broker, work } = await prepared(machine);
    await work.send(0, '2');
    const log = partitionOf(broker, 0);
    machine.fault = ({ name, path }) =>
      name === 'sync' && path.endsWith('.log') ? ioError : undefined;
    await log.sync().catch(() => undefined);
    machine.fault = () => undefined;
    const name = '00000000000000000000.log';
    const bytes = machine.read(name);
    machine.write(name, bytes.subarray(0, -1));
    expect(log.failure).not.toBeNull();
    await broker.reopen({ topic: 't', partition: 0 });
    expect(await failureOf(() => work.end(true))).toMatchObject({ code: 'KAFKA_STORAGE_ERROR' });
    await broker.transactions.end('a', work.identity!, false, true);
    expect(await stateOf(broker)).toEqual(before);
  });
});
