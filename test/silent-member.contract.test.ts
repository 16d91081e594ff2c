import { expect, it } from 'vitest';
import type { Consumer, ConsumerOptions, Ottla, TopicPartition } from '../src/index.js';
import { committed, inOrder, Loop, numbers, owned, send, takeValues } from './consuming.js';
import { describeContract, failureOf } from './contract.js';

const fenced = { code: 'ILLEGAL_GENERATION' };

/** Resolves with what comes first of what it is told. */
function first<T>(): { readonly told: Promise<T>; readonly tell: (what: T) => void } {
  let tell!: (what: T) => void;
  const told = new Promise<T>((resolve) => (tell = resolve));
  return { told, tell };
}

async function withOrders(open: () => Promise<Ottla>): Promise<Ottla> {
  const ottla = await open();
  await ottla.topics.create('orders', { partitions: 2 });
  for (const partition of [0, 1]) await send(ottla, 'orders', numbers(3), partition);
  return ottla;
}

function consumerOf(
  ottla: Ottla,
  options: Omit<ConsumerOptions, 'group' | 'topics'> = {},
): Consumer<'orders'> {
  return ottla.consumer({ group: 'g', topics: ['orders'], assignor: inOrder, ...options });
}

describeContract('a member that does not come back', ({ open }) => {
  it('is warned of, loses its partitions to others, and is fenced until it comes', async () => {
    const ottla = await withOrders(open);
    const warnings: string[] = [];
    ottla.on('warning', (warning) => warnings.push(warning));
    const { told: lost, tell: onLost } = first<readonly TopicPartition[]>();
    const one = consumerOf(ottla, { maxPollIntervalMs: 200, onLost });
    const records = one[Symbol.asyncIterator]();
    const inFlight = (await records.next()).value!;
    expect(await lost).toHaveLength(2);
    expect(warnings).toEqual([expect.stringMatching(/half/), expect.stringMatching(/200 ms/)]);
    await expect(inFlight.commit()).rejects.toMatchObject(fenced);
    const two = new Loop(consumerOf(ottla));
    await ottla.idle();
    expect(two.values).toEqual([...numbers(3), ...numbers(3)]);
    void records.next();
    await one.ready();
    expect([...owned(one), ...owned(two.consumer)].toSorted()).toEqual(['orders-0', 'orders-1']);
    expect(owned(one)).toHaveLength(1);
    await two.close();
  });

  it('is one whose handler hangs, too: its signal aborts, and what it did counts for nothing', async () => {
    const ottla = await withOrders(open);
    ottla.on('warning', () => undefined);
    const { told: aborted, tell } = first<boolean>();
    const one = consumerOf(ottla, { maxPollIntervalMs: 200 });
    const running = one.run({
      eachRecord: (_record, { signal }) =>
        new Promise<void>((resolve) => {
          signal.addEventListener('abort', () => {
            tell(true);
            resolve();
          });
        }),
    });
    expect(await aborted).toBe(true);
    const two = consumerOf(ottla);
    expect(await takeValues(two, 1)).toEqual(['0']);
    await one.close();
    await running;
  });

  it('loses after revokeTimeoutMs what it does not finish, and nothing else', async () => {
    const ottla = await withOrders(open);
    const { told: lost, tell: onLost } = first<readonly TopicPartition[]>();
    const one = consumerOf(ottla, { revokeTimeoutMs: 100, onLost });
    const records = one[Symbol.asyncIterator]();
    let inFlight = (await records.next()).value!;
    while (inFlight.partition !== 1) inFlight = (await records.next()).value!;
    const two = consumerOf(ottla);
    await two.ready();
    expect(await lost).toEqual([{ topic: 'orders', partition: 1 }]);
    expect(await failureOf(() => inFlight.commit())).toMatchObject(fenced);
    expect(await takeValues(two, 1)).toEqual(['0']);
    expect([owned(one), owned(two)]).toEqual([['orders-0'], ['orders-1']]);
    expect((await committed(ottla, 'g', 'orders'))[1]).toBe(0);
  });
});

describeContract('a handler of run()', ({ open }) => {
  it.each<[string, (mine: Consumer, other: Consumer) => Promise<void>]>([
    ['its own ready()', (mine) => mine.ready()],
    ['its own close()', (mine) => mine.close()],
    ['ready() of a member that its partitions move to', (_mine, other) => other.ready()],
    [
      'close() of a member that it waits for',
      async (mine, other) => {
        await other.ready();
        await other.close();
        await mine.ready();
      },
    ],
  ])('may await %s', async (_what, handle) => {
    const ottla = await withOrders(open);
    const [mine, other] = [consumerOf(ottla), consumerOf(ottla)];
    const { told, tell } = first<string>();
    const running = mine.run({
      eachRecord: async () => {
        await handle(mine, other);
        tell('done');
      },
    });
    expect(await told).toBe('done');
    await mine.close();
    await running;
  });
});
