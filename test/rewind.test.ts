import { beforeEach, describe, expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { put } from '../src/storage/meta-store.js';
import { Machine, append, batchOf, createTopic, firstLog, partitionOf } from './machine.js';

async function commit(broker: Broker, offset: number, leaderEpoch: number): Promise<void> {
  const { topicId } = partitionOf(broker);
  await broker.offsets.commit('g', [
    { topicId, partition: 0, offset, leaderEpoch, metadata: `${offset}` },
  ]);
}

function committed(broker: Broker): unknown {
  return broker.offsets.fetch('g', partitionOf(broker).topicId, 0);
}

const rewound = (from: number, to: number): string =>
  `group g: its committed offset of t-0 went back from ${from} to ${to}, where the log now ends.`;

describe('commits above a log that was cut', () => {
  let machine: Machine;
  let broker: Broker;
  let whole: Buffer;
  beforeEach(async () => {
    machine = new Machine();
    broker = await machine.open();
    await createTopic(broker, {}, 2);
    await append(partitionOf(broker), batchOf(['a', 'b']));
    whole = machine.read(firstLog);
    await append(partitionOf(broker), batchOf(['c', 'd']));
  });

  it('go back to its end, and are reported', async () => {
    await commit(broker, 4, 0);
    machine.write(firstLog, Buffer.concat([whole, Buffer.from('torn')]));
    broker = await machine.open();
    expect(broker.recovery).toEqual([expect.stringContaining('cut 4 bytes'), rewound(4, 2)]);
    expect(committed(broker)).toMatchObject({ offset: 2, leaderEpoch: 0, metadata: '4' });
    expect((await machine.open()).recovery).toEqual([]);
  });

  it('at its end or before it stay', async () => {
    await commit(broker, 2, 0);
    machine.write(firstLog, Buffer.concat([whole, Buffer.from('torn')]));
    broker = await machine.open();
    expect(broker.recovery).toHaveLength(1);
    expect(committed(broker)).toMatchObject({ offset: 2, leaderEpoch: 0 });
  });

  it('go back to the end of their epoch, also when others were written there since', async () => {
    await commit(broker, 4, 0);
    const [row] = machine.store.range(['offset']);
    machine.write(firstLog, Buffer.concat([whole, Buffer.from('torn')]));
    broker = await machine.open();
    await append(partitionOf(broker), batchOf(['new', 'newer', 'newest']));
    // As if the process had been killed before it could rewind.
    await machine.store.write([put(row!.key, row!.value)]);
    broker = await machine.open();
    expect(broker.recovery).toEqual([rewound(4, 2)]);
    await commit(broker, 5, 1);
    expect((await machine.open()).recovery).toEqual([]);
  });

  it('whose epoch is not known stay unless they are above it', async () => {
    await commit(broker, 3, -1);
    broker = await machine.open();
    expect(broker.recovery).toEqual([]);
    await commit(broker, 7, -1);
    expect((await machine.open()).recovery).toEqual([rewound(7, 4)]);
  });

  it('of a partition that is damaged are not touched', async () => {
    await commit(broker, 4, 0);
    await broker.close();
    machine.write(firstLog, whole);
    broker = await machine.open();
    expect(broker.recovery).toEqual([expect.stringContaining('takes no records')]);
    expect(committed(broker)).toMatchObject({ offset: 4 });
  });

  it('of a partition that was damaged go back when it is reopened', async () => {
    const large = 'x'.repeat(900);
    await broker.topics.alter('t', { segmentBytes: 1024 });
    for (const value of [large, large]) await append(partitionOf(broker), batchOf([value]));
    const [sealed, active] = machine
      .names()
      .filter((name) => name.endsWith('.log'))
      .slice(-2);
    const bytes = machine.read(sealed!);
    const end = partitionOf(broker).logEndOffset;
    await commit(broker, end, 0);
    machine.append(sealed!, Buffer.from('more'));
    machine.write(active!, machine.read(active!).subarray(0, -1));
    broker = await machine.open();
    const warnings: string[] = [];
    broker.onWarning = (warning) => warnings.push(warning);
    expect(broker.recovery).toEqual([expect.stringContaining('takes no records')]);
    expect(committed(broker)).toMatchObject({ offset: end });
    machine.write(sealed!, bytes);
    expect(await broker.reopen({ topic: 't', partition: 0 })).toContain('cut');
    expect(warnings).toEqual([rewound(end, end - 1)]);
    expect(committed(broker)).toMatchObject({ offset: end - 1 });
    expect(await append(partitionOf(broker), batchOf(['new']))).toBe(end - 1);
  });
});
