import { describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import type { OffsetCommitResult } from '../src/groups.js';
import { put } from '../src/storage/meta-store.js';
import type { ProducerIdentity } from '../src/transaction.js';
import { failureOf } from './contract.js';
import { committedIn } from './committed-records.js';
import { DyingMachine } from './dying-machine.js';
import { FaultyMachine } from './faulty-machine.js';
import { Machine, append, batchOf, createTopic, firstLog, partitionOf } from './machine.js';
import { numberedBatch } from './numbered.js';

const id = 'elsewhere';
const nobody = { memberId: '', groupInstanceId: null, generationId: -1 };

/** A transactional producer in another process, call by call, over partitions 0 and 1 of topic t. */
class Remote {
  broker: Broker;
  identity: ProducerIdentity = { producerId: -1n, producerEpoch: -1 };
  #sequences = [0, 0];

  constructor(broker: Broker) {
    this.broker = broker;
  }

  async init(timeoutMs = 60_000, expected: ProducerIdentity | null = null): Promise<void> {
    this.identity = await this.broker.transactions.init(id, timeoutMs, expected);
    this.#sequences = [0, 0];
  }

  /** As Produce does. */
  async write(partition: 0 | 1, value: string): Promise<void> {
    const log = partitionOf(this.broker, partition);
    this.broker.transactions.refuseUnadded(id, this.identity, log);
    const baseSequence = this.#sequences[partition]!++;
    const timestamp = this.broker.clock.now();
    const origin = { ...this.identity, baseSequence, isTransactional: true, timestamp };
    await append(log, numberedBatch([value], origin));
  }

  addPartitions(...partitions: readonly (0 | 1)[]): Promise<void> {
    const logs = partitions.map((partition) => partitionOf(this.broker, partition));
    return this.broker.transactions.addPartitions(id, this.identity, logs);
  }

  addGroup(): Promise<void> {
    return this.broker.transactions.addGroup(id, this.identity, 'g');
  }

  /** As TxnOffsetCommit does, of partition 2. */
  async sendOffset(offset: number): Promise<OffsetCommitResult[]> {
    const offsets = [{ topic: 't', partition: 2, offset, leaderEpoch: -1, metadata: '' }];
    const { results, commit } = this.broker.groups.judge(
      { groupId: 'g', ...nobody, offsets },
      true,
    );
    await this.broker.transactions.commitOffsets(id, this.identity, commit);
    return results;
  }

  async end(isCommit: boolean): Promise<void> {
    await this.broker.transactions.end(id, this.identity, isCommit);
  }

  /** Round n writes n to both partitions, and sends offset n. */
  async work(n: number): Promise<void> {
    await this.addPartitions(0, 1);
    await this.write(0, `${n}`);
    await this.write(1, `${n}`);
    await this.addGroup();
    await this.sendOffset(n);
  }
}

interface State {
  readonly values: readonly string[][];
  readonly offset: number | undefined;
}

async function stateOf(broker: Broker): Promise<State> {
  const partitions = [0, 1].map((index) => partitionOf(broker, index));
  const values = await Promise.all(partitions.map(committedIn));
  const { topicId } = partitions[0]!;
  return { values, offset: broker.offsets.fetch('g', topicId, 2)?.offset };
}

function isStable(broker: Broker): boolean {
  return [0, 1].every((index) => {
    const { lastStableOffset, highWatermark } = partitionOf(broker, index);
    return lastStableOffset === highWatermark;
  });
}

async function prepared(machine: Machine): Promise<{ broker: Broker; remote: Remote }> {
  const broker = await machine.open();
  await createTopic(broker, {}, 3);
  await append(partitionOf(broker, 2), batchOf(Array.from({ length: 20 }, () => 'in')));
  const remote = new Remote(broker);
  await remote.init();
  await remote.work(1);
  await remote.end(true);
  return { broker, remote };
}

const before: State = { values: [['1'], ['1']], offset: 1 };
const after: State = {
  values: [
    ['1', '2'],
    ['1', '2'],
  ],
  offset: 2,
};

const codeOf = async (run: () => unknown): Promise<unknown> =>
  ((await failureOf(run)) as { code?: unknown }).code;

const isPending = (broker: Broker): boolean =>
  broker.transactions.hasPendingOffset('g', partitionOf(broker).topicId, 2);

describe('offsets of a transaction', () => {
  it('g31: Transactional commit: pending, commit, abort', async () => {
    for (const isCommit of [true, false]) {
      const { broker, remote } = await prepared(new Machine());
      const committed = (): number | undefined =>
        broker.groups.committed('g', { topic: 't', partition: 2 })?.offset;
      await remote.addGroup();
      expect(isPending(broker)).toBe(false);
      expect(await remote.sendOffset(12)).toEqual([null]);
      expect([committed(), isPending(broker)]).toEqual([1, true]);
      await remote.end(isCommit);
      expect([committed(), isPending(broker)]).toEqual([isCommit ? 12 : 1, false]);
      const other = new Remote(broker);
      other.identity = await broker.transactions.init('another', 60_000);
      await broker.transactions.addGroup('another', other.identity, 'g');
      await broker.transactions.end('another', other.identity, isCommit);
      expect(committed()).toBe(isCommit ? 12 : 1);
    }
  });

  it('are of groups that were added, in an open transaction', async () => {
    const { remote } = await prepared(new Machine());
    expect(await codeOf(() => remote.sendOffset(2))).toBe('INVALID_TXN_STATE');
    await remote.addPartitions(0);
    expect(await codeOf(() => remote.sendOffset(2))).toBe('INVALID_TXN_STATE');
  });

  it('above the end of a log that was cut go back to it', async () => {
    const machine = new Machine();
    const { remote } = await prepared(machine);
    await append(partitionOf(remote.broker, 2), batchOf(['torn']));
    await remote.addGroup();
    await remote.sendOffset(21);
    machine.write(firstLog, machine.read(firstLog, '/t-2').subarray(0, -1), '/t-2');
    remote.broker = await machine.open();
    await remote.end(true);
    expect((await stateOf(remote.broker)).offset).toBe(20);
  });

  it('of one partition twice: the later ones count', async () => {
    const machine = new Machine();
    const { remote } = await prepared(machine);
    await remote.addGroup();
    await remote.sendOffset(5);
    await remote.sendOffset(3);
    remote.broker = await machine.open();
    await remote.end(true);
    expect((await stateOf(remote.broker)).offset).toBe(3);
  });
});

describe('an open transaction of a producer elsewhere', () => {
  it('takes only appends to partitions that were added', async () => {
    const { remote } = await prepared(new Machine());
    expect(await codeOf(() => remote.write(0, '2'))).toBe('INVALID_TXN_STATE');
    await remote.addPartitions(0);
    await remote.write(0, '2');
    expect(await codeOf(() => remote.write(1, '2'))).toBe('INVALID_TXN_STATE');
    await remote.end(false);
    expect(await codeOf(() => remote.write(0, '2'))).toBe('INVALID_TXN_STATE');
  });

  it('goes on after a kill, and after a close', async () => {
    for (const isClosed of [false, true]) {
      for (const isCommit of [true, false]) {
        const machine = new Machine();
        const { broker, remote } = await prepared(machine);
        await remote.work(2);
        if (isClosed) await broker.close();
        const reopened = await machine.open();
        remote.broker = reopened;
        expect(reopened.recovery.filter((line) => line.includes('aborted'))).toEqual([]);
        expect(await stateOf(reopened)).toEqual(before);
        expect([isStable(reopened), isPending(reopened)]).toEqual([false, true]);
        await remote.end(isCommit);
        expect(await stateOf(reopened)).toEqual(isCommit ? after : before);
        expect([isStable(reopened), isPending(reopened)]).toEqual([true, false]);
        const again = await machine.open();
        expect(await stateOf(again)).toEqual(isCommit ? after : before);
        expect(isStable(again)).toBe(true);
      }
    }
  });

  it('takes more after a restart, in the order of its sequences', async () => {
    const machine = new Machine();
    const { remote } = await prepared(machine);
    await remote.addPartitions(0);
    await remote.write(0, '2');
    remote.broker = await machine.open();
    await remote.write(0, '3');
    await remote.addPartitions(1);
    remote.broker = await machine.open();
    await remote.write(1, '3');
    await remote.end(true);
    expect((await stateOf(remote.broker)).values).toEqual([
      ['1', '2', '3'],
      ['1', '3'],
    ]);
  });

  it('is aborted when it takes longer than its timeout, restarts included', async () => {
    const machine = new Machine();
    const { remote } = await prepared(machine);
    await remote.init(10_000);
    await remote.work(2);
    await machine.clock.advance(6000);
    const broker = await machine.open();
    remote.broker = broker;
    await machine.clock.advance(3000);
    expect(isStable(broker)).toBe(false);
    await machine.clock.advance(2000);
    expect([isStable(broker), isPending(broker)]).toEqual([true, false]);
    expect(await codeOf(() => remote.end(true))).toBe('PRODUCER_FENCED');
    expect(await codeOf(() => remote.addPartitions(0))).toBe('PRODUCER_FENCED');
    const reopened = await machine.open();
    expect(await stateOf(reopened)).toEqual(before);
    remote.broker = reopened;
    expect(await codeOf(() => remote.end(true))).toBe('PRODUCER_FENCED');
  });

  it('is not aborted before what arrived in time was heard', async () => {
    const machine = new Machine();
    const { broker, remote } = await prepared(machine);
    await remote.work(2);
    const { clock } = machine;
    const soon = clock.soon.bind(clock);
    let ended: Promise<void> | undefined;
    // Its time is over: what waits to be read comes in before the turn ends.
    clock.soon = (run) => {
      ended ??= remote.end(true);
      soon(run);
    };
    await clock.advance(60_000);
    await ended;
    expect(await stateOf(broker)).toEqual(after);
  });

  it('that timed out while the process was down is aborted at once', async () => {
    const machine = new Machine();
    const { broker, remote } = await prepared(machine);
    await remote.work(2);
    await broker.close();
    await machine.clock.advance(60_000);
    const reopened = await machine.open();
    await machine.clock.advance(0);
    expect(isStable(reopened)).toBe(true);
    expect(await stateOf(reopened)).toEqual(before);
  });

  it('that cannot be aborted for want of storage is aborted later', async () => {
    const machine = new FaultyMachine();
    const { broker, remote } = await prepared(machine);
    await machine.clock.advance(2000);
    await remote.work(2);
    machine.rowFault = Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
    await machine.clock.advance(60_000);
    expect(isStable(broker)).toBe(false);
    expect(await codeOf(() => remote.end(true))).toBe('PRODUCER_FENCED');
    await machine.clock.advance(60_000);
    expect(isStable(broker)).toBe(true);
    expect(await stateOf(await machine.open())).toEqual(before);
  });

  it('is nothing to do where its topic was deleted', async () => {
    const machine = new Machine();
    const { broker, remote } = await prepared(machine);
    await remote.work(2);
    await broker.topics.delete('t');
    const reopened = await machine.open();
    remote.broker = reopened;
    await remote.end(true);
    expect([...reopened.offsets.committed('g')]).toEqual([]);
  });

  it('can be empty', async () => {
    const machine = new Machine();
    const { remote } = await prepared(machine);
    for (const isCommit of [true, false]) {
      await remote.addPartitions(0);
      await remote.addGroup();
      remote.broker = await machine.open();
      await remote.end(isCommit);
      expect(await stateOf(remote.broker)).toEqual(before);
    }
  });

  it('is what its id expires behind', async () => {
    const machine = new Machine();
    const { remote } = await prepared(machine);
    await remote.end(true);
    await machine.clock.advance(8 * 24 * 60 * 60 * 1000);
    const broker = await machine.open();
    expect(await codeOf(() => broker.transactions.end(id, remote.identity, true))).toBe(
      'INVALID_PRODUCER_ID_MAPPING',
    );
  });
});

describe('the end of a transaction of a producer elsewhere', () => {
  it('has the same answer when it is asked for again, after a restart too', async () => {
    for (const isCommit of [true, false]) {
      const machine = new Machine();
      const { remote } = await prepared(machine);
      await remote.work(2);
      await remote.end(isCommit);
      await remote.end(isCommit);
      remote.broker = await machine.open();
      await remote.end(isCommit);
      expect(await codeOf(() => remote.end(!isCommit))).toBe('INVALID_TXN_STATE');
      expect(await stateOf(remote.broker)).toEqual(isCommit ? after : before);
    }
  });

  it('begins with the row, whichever it is', async () => {
    for (const isCommit of [true, false]) {
      const machine = new FaultyMachine();
      const { remote } = await prepared(machine);
      await remote.work(2);
      await remote.broker.transactions.writePending();
      machine.log.length = 0;
      await remote.end(isCommit);
      const kinds = machine.log.map((call) => call.split(' ')[0]);
      const row = machine.log.findIndex((call) => call.startsWith('write rows transaction'));
      expect(row).toBeGreaterThanOrEqual(0);
      const written = machine.log.slice(row + 1).filter((call) => call.startsWith('write '));
      expect(written).toHaveLength(2);
      expect(kinds.slice(0, row)).not.toContain('write');
    }
  });
});

describe('a transactional id', () => {
  it('is given to two who ask at the same time in two epochs', async () => {
    const { broker, remote } = await prepared(new Machine());
    await remote.addPartitions(0);
    await remote.write(0, '2');
    const [one, two, three] = await Promise.all([
      broker.transactions.init(id, 60_000),
      broker.transactions.init(id, 60_000),
      broker.transactions.init(id, 60_000),
    ]);
    const epochs = [one, two, three].map(({ producerEpoch }) => producerEpoch);
    expect(new Set(epochs).size).toBe(3);
    remote.identity = [one, two, three].find(
      ({ producerEpoch }) => producerEpoch === Math.max(...epochs),
    )!;
    await remote.addPartitions(0);
  });

  it('fences who had it, with its open transaction', async () => {
    const machine = new Machine();
    const { broker, remote } = await prepared(machine);
    await remote.work(2);
    const next = new Remote(broker);
    await next.init();
    for (const step of [
      () => remote.write(0, '3'),
      () => remote.addPartitions(0),
      () => remote.addGroup(),
      () => remote.sendOffset(3),
      () => remote.end(true),
    ]) {
      expect(await codeOf(step)).toBe('PRODUCER_FENCED');
    }
    expect(await stateOf(broker)).toEqual(before);
    await next.work(2);
    await next.end(true);
    expect(await stateOf(await machine.open())).toEqual(after);
  });

  it('begins a new epoch for who holds it, and gives the same one to who asks again', async () => {
    const { broker, remote } = await prepared(new Machine());
    const old = remote.identity;
    await remote.init(60_000, old);
    const { producerEpoch } = remote.identity;
    expect(producerEpoch).toBe(old.producerEpoch + 1);
    await remote.init(60_000, old);
    expect(remote.identity.producerEpoch).toBe(producerEpoch);
    const stranger = { ...old, producerId: 5n };
    expect(await codeOf(() => broker.transactions.init(id, 60_000, stranger))).toBe(
      'PRODUCER_FENCED',
    );
    await remote.addPartitions(0);
    expect(await codeOf(() => broker.transactions.init(id, 60_000, old))).toBe('PRODUCER_FENCED');
    // An id that nobody has had has nobody to fence: Kafka gives it to whoever asks, too.
    expect(await broker.transactions.init('new', 60_000, old)).toMatchObject({ producerEpoch: 0 });
    expect(await codeOf(() => broker.transactions.end('unknown', old, true))).toBe(
      'INVALID_PRODUCER_ID_MAPPING',
    );
  });

  it('is refused a timeout that is none', async () => {
    const { broker } = await prepared(new Machine());
    for (const timeoutMs of [0, -1, 900_001]) {
      expect(await codeOf(() => broker.transactions.init(id, timeoutMs))).toBe(
        'INVALID_TRANSACTION_TIMEOUT',
      );
    }
  });
});

/** What is found after a death is wholly before, wholly after, or still open: then it can end so. */
async function expectWhole(machine: Machine, remote: Remote, canCommit: boolean): Promise<void> {
  const broker = await machine.open();
  remote.broker = broker;
  const wasOpen = !isStable(broker);
  expect(wasOpen ? [before] : [before, after]).toContainEqual(await stateOf(broker));
  if (wasOpen) await remote.end(canCommit);
  expect(wasOpen && canCommit ? [after] : [before, after]).toContainEqual(await stateOf(broker));
  const next = new Remote(broker);
  await next.init();
  expect([isStable(broker), isPending(broker)]).toEqual([true, false]);
  expect([before, after]).toContainEqual(await stateOf(broker));
}

describe('death in a transaction of a producer elsewhere', () => {
  const runs: readonly (readonly [string, (remote: Remote) => Promise<void>])[] = [
    ['its work', async (remote) => remote.work(2)],
    [
      'its commit',
      async (remote) => {
        await remote.end(true);
      },
    ],
    [
      'its abort',
      async (remote) => {
        await remote.end(false);
      },
    ],
    [
      'its fencing',
      async (remote) => {
        await new Remote(remote.broker).init();
      },
    ],
  ];
  for (const [name, run] of runs) {
    it(`at each change of ${name} leaves it wholly or not at all`, async () => {
      let deaths = 0;
      for (; ; deaths++) {
        const machine = new DyingMachine(false);
        const { remote } = await prepared(machine);
        if (name !== 'its work') await remote.work(2);
        machine.left = deaths;
        machine.asked = 0;
        const done = await run(remote).then(
          () => true,
          () => false,
        );
        const wasReached = machine.asked > deaths;
        machine.left = Infinity;
        const isCommitted = done && name === 'its commit';
        const state = await stateOf(await machine.open());
        expect(isCommitted ? [after] : [before, after]).toContainEqual(state);
        await expectWhole(machine, remote, done || name !== 'its work');
        if (!wasReached) break;
      }
      expect(deaths).toBeGreaterThan(0);
    });
  }

  it('while an abort is finished at an open leaves nothing of it', async () => {
    for (let deaths = 0; ; deaths++) {
      const machine = new DyingMachine(false);
      const { remote } = await prepared(machine);
      await remote.work(2);
      machine.left = 1;
      await remote.end(false).catch(() => undefined);
      machine.left = deaths;
      machine.asked = 0;
      await machine.open().catch(() => undefined);
      const wasReached = machine.asked > deaths;
      machine.left = Infinity;
      const broker = await machine.open();
      expect(isStable(broker)).toBe(true);
      expect(await stateOf(broker)).toEqual(before);
      if (!wasReached) break;
    }
  });
});

describe('one failure in a transaction of a producer elsewhere', () => {
  it('is told, and the same call may be made again', async () => {
    for (let changes = 0; ; changes++) {
      const machine = new DyingMachine(true);
      const { broker, remote } = await prepared(machine);
      machine.left = changes;
      machine.asked = 0;
      const again = async (step: () => Promise<unknown>): Promise<void> => {
        await step().catch(step);
      };
      await again(() => remote.addPartitions(0, 1));
      let isLost = false;
      for (const partition of [0, 1] as const) {
        await remote.write(partition, '2').catch(() => (isLost = true));
      }
      await again(() => remote.addGroup());
      await again(() => remote.sendOffset(2));
      await again(() => remote.end(!isLost));
      const wasReached = machine.asked > changes;
      await machine.clock.advance(2000);
      expect(await stateOf(broker)).toEqual(isLost ? before : after);
      expect(isStable(broker)).toBe(true);
      expect(await stateOf(await machine.open())).toEqual(isLost ? before : after);
      if (!wasReached) break;
    }
  });
});

describe('rows', () => {
  it('of producers of this process hold no open transaction', async () => {
    const machine = new Machine();
    const { broker } = await prepared(machine);
    const identity = await broker.transactions.init('here', 60_000);
    broker.transactions.add('here', identity, partitionOf(broker));
    await broker.close();
    expect(machine.store.get(['transaction', 'here'])).toMatchObject({ open: null });
  });

  it('keep what is open while the decision before is forgotten', async () => {
    const machine = new Machine();
    const { remote } = await prepared(machine);
    await remote.work(2);
    await machine.clock.advance(2000);
    expect(machine.store.get(['transaction', id])).toMatchObject({
      ended: null,
      decision: null,
      open: { groups: ['g'], commits: [{ group: 'g' }] },
    });
    remote.broker = await machine.open();
    await remote.end(true);
    expect(await stateOf(remote.broker)).toEqual(after);
  });

  it('with a decision and an open transaction are both taken up', async () => {
    const machine = new Machine();
    const { remote } = await prepared(machine);
    const row = machine.store.get(['transaction', id])!;
    await remote.work(2);
    const open = machine.store.get(['transaction', id])!;
    await machine.store.write([put(['transaction', id], { ...open, decision: row.decision })]);
    remote.broker = await machine.open();
    await remote.end(true);
    expect(await stateOf(remote.broker)).toEqual(after);
  });
});
