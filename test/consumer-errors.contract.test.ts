import { expect, it } from 'vitest';
import { assignors, type Consumer, type Ottla } from '../src/index.js';
import { committed, numbers, send, take, takeValues } from './consuming.js';
import { describeContract, failureOf } from './contract.js';

const p0 = { topic: 'orders', partition: 0 };

function consumerOf(ottla: Ottla): Consumer<'orders'> {
  return ottla.consumer({ group: 'g', topics: ['orders'] });
}

async function withOrders(open: () => Promise<Ottla>, partitions = 1): Promise<Ottla> {
  const ottla = await open();
  await ottla.topics.create('orders', { partitions });
  await send(ottla, 'orders', numbers(3));
  return ottla;
}

const good = { group: 'g', topics: ['orders'] };

describeContract('options of a consumer', ({ open }) => {
  it.each([
    ['no options', undefined, TypeError],
    ['an unknown name', { ...good, gruop: 'g' }, TypeError],
    ['a group that is no text', { ...good, group: ['g'] }, TypeError],
    ['a number as group', { ...good, group: 5 }, TypeError],
    ['an empty group', { ...good, group: '' }, TypeError],
    ['a group of 1,025 bytes', { ...good, group: `${'é'.repeat(512)}x` }, TypeError],
    ['a group of 600 control characters', { ...good, group: '\u0001'.repeat(600) }, TypeError],
    ['a group that is not Unicode', { ...good, group: '\ud800' }, TypeError],
    ['a group without topics', { group: 'g' }, TypeError],
    ['topics without a group', { topics: ['orders'] }, TypeError],
    ['topics that are no list', { ...good, topics: 'orders' }, TypeError],
    ['no topic', { ...good, topics: [] }, TypeError],
    ['a topic that is neither a name nor a definition', { ...good, topics: [5] }, TypeError],
    ['an unknown assignor', { ...good, assignor: 'random' }, TypeError],
    ['an assignor without assign()', { ...good, assignor: { name: 'mine' } }, TypeError],
    ['an unknown from', { ...good, from: 'start' }, TypeError],
    ['an invalid date', { ...good, from: new Date(Number.NaN) }, TypeError],
    ['autoCommit as text', { ...good, autoCommit: 'yes' }, TypeError],
    ['a number as autoCommit', { ...good, autoCommit: 1 }, TypeError],
    ['a number as assignor', { ...good, assignor: 5 }, TypeError],
    ['maxPollRecords 0', { ...good, maxPollRecords: 0 }, RangeError],
    ['maxPollRecords 1.5', { ...good, maxPollRecords: 1.5 }, RangeError],
    ['maxPollIntervalMs -1', { ...good, maxPollIntervalMs: -1 }, RangeError],
    ['maxPollIntervalMs 0', { ...good, maxPollIntervalMs: 0 }, RangeError],
    ['revokeTimeoutMs as text', { ...good, revokeTimeoutMs: '30s' }, TypeError],
    ['an onAssigned that is no function', { ...good, onAssigned: true }, TypeError],
  ])('refuses %s, at once', async (_what, options, type) => {
    const ottla = await open();
    const error = await failureOf(() => ottla.consumer(options as never));
    expect(error).toBeInstanceOf(type);
    expect(error.message).toMatch(/^consumer: .*(got|unknown)/);
  });

  it('takes an option that is undefined for one that is not given', async () => {
    const ottla = await withOrders(open);
    const consumer = ottla.consumer({ ...good, from: undefined, assignor: undefined } as never);
    expect(await takeValues(consumer, 1)).toEqual(['0']);
  });
});

describeContract('a consumer', ({ open }) => {
  it('fails for a topic that does not exist, and works once it does', async () => {
    const ottla = await open();
    const consumer = ottla.consumer({ group: 'g', topics: ['orders', 'bills'] });
    await ottla.topics.create('orders');
    const failure = await failureOf(() => consumer.ready());
    expect(failure).toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION', retriable: false });
    expect(failure.message).toMatch(/bills/);
    await expect(take(consumer, 1)).rejects.toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
    expect(await ottla.groups.list()).toEqual([]);
    await ottla.topics.create('bills');
    await consumer.ready();
    expect(consumer.assignment()).toHaveLength(2);
  });

  it('without a group needs assign() before it reads', async () => {
    const ottla = await withOrders(open);
    const consumer = ottla.consumer({});
    await expect(consumer.ready()).rejects.toThrow(TypeError);
    await expect(take(consumer, 1)).rejects.toThrow(TypeError);
    consumer.assign([p0]);
    expect(await takeValues(consumer, 1)).toEqual(['0']);
  });

  it('names a topic that is not there, or the partitions that there are', async () => {
    const ottla = await withOrders(open);
    const consumer = ottla.consumer({});
    const at = { topic: 'typo', partition: 0 };
    const failure = await failureOf(async () => consumer.assign([at]));
    expect(failure).toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
    expect(failure.message).toBe('assign: there is no topic "typo": create it first');
    expect(() => consumer.assign([{ ...p0, partition: 7 }])).toThrow(/orders from 0 to 0, got 7/);
  });

  it('with a group refuses assign()', async () => {
    const ottla = await withOrders(open);
    expect(() => consumerOf(ottla).assign([p0])).toThrow(TypeError);
  });

  it.each([
    ['no list', p0, TypeError, undefined],
    ['no partition', [{ topic: 'orders' }], TypeError, undefined],
    ['no such partition', [{ ...p0, partition: 1 }], Error, 'UNKNOWN_TOPIC_OR_PARTITION'],
    ['partition -1', [{ ...p0, partition: -1 }], Error, 'UNKNOWN_TOPIC_OR_PARTITION'],
    ['a broken offset', [{ ...p0, offset: 1.5 }], RangeError, undefined],
  ])('refuses assign() of %s', async (_what, partitions, type, code) => {
    const ottla = await withOrders(open);
    const consumer = ottla.consumer({});
    const error = await failureOf(() => consumer.assign(partitions as never));
    expect(error).toBeInstanceOf(type);
    expect((error as { code?: string }).code).toBe(code);
    expect(error.message).toMatch(/^assign: expected .* got /);
    expect(consumer.assignment()).toEqual([]);
  });

  it('refuses an assignor that the rest of the group does not use, and leaves the group alone', async () => {
    const ottla = await withOrders(open, 2);
    const first = consumerOf(ottla);
    await first.ready();
    const second = ottla.consumer({ ...good, assignor: assignors.sticky });
    const failure = await failureOf(() => second.ready());
    expect(failure).toMatchObject({ code: 'INCONSISTENT_GROUP_PROTOCOL', retriable: false });
    expect(failure.message).toMatch(/range.*sticky/);
    await expect(take(second, 1)).rejects.toMatchObject({ code: 'INCONSISTENT_GROUP_PROTOCOL' });
    expect(first.assignment()).toHaveLength(2);
    expect(await ottla.groups.describe('g')).toMatchObject({ state: 'Stable', generation: 1 });
    await first.close();
    expect(await takeValues(second, 1)).toEqual(['0']);
  });

  it.each([
    ['seek', (consumer: Consumer) => consumer.seek({ topic: 'orders', partition: 9, offset: 0 })],
    [
      'seek to a time',
      (consumer: Consumer) => consumer.seek({ topic: 'orders', partition: 9, timestamp: 0 }),
    ],
    [
      'seekToBeginning',
      (consumer: Consumer) => consumer.seekToBeginning([{ topic: 'orders', partition: 9 }]),
    ],
    ['seekToEnd', (consumer: Consumer) => consumer.seekToEnd([{ topic: 'bills', partition: 0 }])],
    ['pause', (consumer: Consumer) => consumer.pause([p0, { topic: 'orders', partition: 9 }])],
    ['resume', (consumer: Consumer) => consumer.resume([p0, { topic: 'orders', partition: 9 }])],
    ['position', (consumer: Consumer) => consumer.position({ topic: 'orders', partition: 9 })],
    [
      'commit',
      (consumer: Consumer) => consumer.commit([{ topic: 'orders', partition: 9, offset: 0 }]),
    ],
  ])('refuses %s of a partition that is not assigned', async (_what, call) => {
    const ottla = await withOrders(open);
    const consumer = consumerOf(ottla);
    await consumer.ready();
    expect(await failureOf(() => call(consumer))).toMatchObject({ code: 'ILLEGAL_GENERATION' });
    expect(await takeValues(consumer, 1)).toEqual(['0']);
  });

  it.each([
    ['seek without an offset', (consumer: Consumer) => consumer.seek(p0 as never)],
    ['seek to -1', (consumer: Consumer) => consumer.seek({ ...p0, offset: -1 })],
    ['seek of nothing', (consumer: Consumer) => consumer.seek(undefined as never)],
    ['pause of no list', (consumer: Consumer) => consumer.pause(p0 as never)],
    ['resume of names', (consumer: Consumer) => consumer.resume(['orders'] as never)],
    ['position of nothing', (consumer: Consumer) => consumer.position(undefined as never)],
    [
      'ready with an unknown option',
      (consumer: Consumer) => consumer.ready({ sginal: 1 } as never),
    ],
    ['ready with no signal', (consumer: Consumer) => consumer.ready({ signal: 1 } as never)],
    ['close with an unknown option', (consumer: Consumer) => consumer.close({ ms: 1 } as never)],
    ['close with a broken timeout', (consumer: Consumer) => consumer.close({ timeoutMs: -1 })],
  ])('refuses %s', async (_what, call) => {
    const ottla = await withOrders(open);
    const consumer = consumerOf(ottla);
    await consumer.ready();
    const error = await failureOf(() => call(consumer));
    expect(error instanceof TypeError || error instanceof RangeError).toBe(true);
    expect(error.message).toMatch(/(expected|must be|takes)/);
    expect(await takeValues(consumer, 1)).toEqual(['0']);
  });

  it.each([
    ['ready', (consumer: Consumer) => consumer.ready()],
    ['an iteration', (consumer: Consumer) => take(consumer, 1)],
    ['batches', (consumer: Consumer) => take(consumer.batches(), 1)],
    ['commit', (consumer: Consumer) => consumer.commit()],
    ['commit of offsets', (consumer: Consumer) => consumer.commit([{ ...p0, offset: 1 }])],
    ['seek', (consumer: Consumer) => consumer.seek({ ...p0, offset: 0 })],
    ['seekToBeginning', (consumer: Consumer) => consumer.seekToBeginning()],
    ['seekToEnd', (consumer: Consumer) => consumer.seekToEnd([p0])],
    ['pause', (consumer: Consumer) => consumer.pause([p0])],
    ['resume', (consumer: Consumer) => consumer.resume([p0])],
    ['position', (consumer: Consumer) => consumer.position(p0)],
  ])('refuses %s after close()', async (_what, call) => {
    const ottla = await withOrders(open);
    const consumer = consumerOf(ottla);
    await consumer.ready();
    await consumer.close();
    expect(await failureOf(() => call(consumer))).toMatchObject({ code: 'CLOSED' });
    expect(consumer.assignment()).toEqual([]);
    expect(consumer.lag()).toEqual([]);
  });

  it('refuses everything after its Ottla was closed', async () => {
    const ottla = await withOrders(open);
    const consumer = consumerOf(ottla);
    const fresh = consumerOf(ottla);
    await consumer.ready();
    await ottla.close();
    await expect(consumer.ready()).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(fresh.ready()).rejects.toMatchObject({ code: 'CLOSED' });
    expect(await failureOf(() => consumerOf(ottla))).toMatchObject({ code: 'CLOSED' });
    await consumer.close();
  });

  it('refuses the commit of a record after close(), writing nothing', async () => {
    const ottla = await withOrders(open);
    const consumer = consumerOf(ottla);
    const [record] = await take(consumer, 1);
    await consumer.close();
    await expect(record!.commit()).rejects.toMatchObject({ code: 'ILLEGAL_GENERATION' });
    expect(await committed(ottla, 'g', 'orders')).toEqual([0]);
  });

  it('closes once, whoever asks and however often, joined or not', async () => {
    const ottla = await withOrders(open);
    const consumer = consumerOf(ottla);
    await consumer.ready();
    await Promise.all([consumer.close(), consumer.close({ timeoutMs: 1000 }), consumer.close()]);
    await consumer[Symbol.asyncDispose]();
    await consumerOf(ottla).close();
    expect((await ottla.groups.describe('g')).members).toEqual([]);
  });

  it('is ABORTED in ready() by its signal, and joins all the same', async () => {
    const ottla = await withOrders(open);
    const consumer = consumerOf(ottla);
    const reason = new Error('enough');
    const failure = await failureOf(() => consumer.ready({ signal: AbortSignal.abort(reason) }));
    expect(failure).toMatchObject({ code: 'ABORTED', cause: reason });
    await consumer.ready();
    expect(consumer.assignment()).toEqual([p0]);
  });
});
