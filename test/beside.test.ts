import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { compileSource, startChild, type Child, type CompiledSource } from './child-process.js';
import { closedAfterEach, collect } from './contract.js';
import { failureOf } from './machine.js';

let source: CompiledSource;
beforeAll(() => {
  source = compileSource();
});
afterAll(() => source.remove());

let place: string;
let data: string;
let owner: Child;
const closed = closedAfterEach();
beforeEach(async () => {
  place = fs.mkdtempSync(join(tmpdir(), 'ottla-beside-'));
  data = join(place, 'data');
  owner = startChild(
    source,
    `import { Ottla } from './dist/index.js';
    const ottla = await Ottla.open(${JSON.stringify(data)});
    const producer = ottla.producer({ acks: 1 });
    let sent = 0;
    const does = {
      async create(name, options) { await ottla.topics.create(name, options); },
      async remove(name) { await ottla.topics.delete(name); },
      async grow(name, total) { await ottla.topics.addPartitions(name, total); },
      async alter(name, options) { await ottla.topics.alter(name, options); },
      async send(topic, partition, count) {
        for (let i = 0; i < count; i++) {
          await producer.send(topic, { value: \`\${sent++}\`.padStart(100, '.'), partition });
        }
      },
      async commit(topic, offset) {
        const consumer = ottla.consumer({ group: 'g', topics: [topic], autoCommit: false });
        await consumer.ready();
        await consumer.commit([{ topic, partition: 0, offset }]);
        await consumer.close();
      },
      async close() { await ottla.close(); },
    };
    process.on('message', async ([what, ...args]) => {
      await does[what](...args);
      process.send('done');
    });
    process.send('open');`,
  );
  if ((await owner.next()) !== 'open') throw new Error(owner.stderr());
  await tell('create', 'orders', { segmentBytes: 1024 });
});
afterEach(async () => {
  owner.process.kill('SIGKILL');
  await owner.ended();
  fs.rmSync(place, { recursive: true, force: true });
});

/** Has the owner do something, and waits until it is done. */
async function tell(...what: unknown[]): Promise<void> {
  owner.process.send(what);
  if ((await owner.next()) !== 'done') throw new Error(`the owner failed: ${owner.stderr()}`);
}

async function readOnly(): Promise<Ottla> {
  return closed(await Ottla.open(data, { readOnly: true }));
}

const values = (records: readonly { readonly value: unknown }[]): number[] =>
  records.map(({ value }) => Number(String(value).replaceAll('.', '')));

const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, i) => from + i);

/** Every file with its bytes, but LMDB's table of readers. */
function snapshot(): Record<string, string> {
  const names = fs.readdirSync(data, { recursive: true, encoding: 'utf8' });
  const files = names.filter((name) => fs.statSync(join(data, name)).isFile());
  return Object.fromEntries(
    files
      .filter((name) => !name.endsWith('lock.mdb'))
      .map((name) => [name, fs.readFileSync(join(data, name), 'hex')]),
  );
}

describe('beside a process that has it open', () => {
  it('open is LOCKED, naming that process and since when, and touches nothing', async () => {
    await tell('send', 'orders', 0, 3);
    const before = snapshot();
    const error = await failureOf(Ottla.open(data));
    expect(error).toMatchObject({ name: 'OttlaError', code: 'LOCKED', retriable: true });
    expect(error.message).toContain(`process ${owner.process.pid} since `);
    const since = /since (\S+)/.exec(error.message)?.[1];
    expect(Math.abs(Date.now() - Date.parse(since!))).toBeLessThan(60_000);
    expect(snapshot()).toEqual(before);
  });

  it('open works once that one has closed', async () => {
    await tell('send', 'orders', 0, 3);
    await tell('close');
    const ottla = closed(await Ottla.open(data));
    expect(ottla.recovery).toEqual([]);
    expect(values(await collect(ottla.read('orders')))).toEqual([0, 1, 2]);
  });

  it('open works once that one was killed, and has what it acknowledged', async () => {
    await tell('send', 'orders', 0, 30);
    owner.process.kill('SIGKILL');
    await owner.ended();
    const ottla = closed(await Ottla.open(data));
    expect(ottla.recovery).toEqual([]);
    expect(values(await collect(ottla.read('orders')))).toEqual(range(0, 30));
  });
});

describe('read-only, beside the owner,', () => {
  it('a reading follows what is written, over rolls', async () => {
    const ottla = await readOnly();
    const reading = ottla.read('orders', { until: 'never' })[Symbol.asyncIterator]();
    const next = async (count: number): Promise<number[]> => {
      const records = [];
      for (let i = 0; i < count; i++) records.push((await reading.next()).value!);
      return values(records);
    };
    await tell('send', 'orders', 0, 5);
    expect(await next(5)).toEqual(range(0, 5));
    const waiting = next(40);
    await tell('send', 'orders', 0, 40);
    expect(await waiting).toEqual(range(5, 45));
    await tell('send', 'orders', 0, 1);
    expect(await next(1)).toEqual([45]);
    const [partition] = (await ottla.topics.describe('orders')).partitions;
    expect(partition).toMatchObject({ highWatermark: 46, logStartOffset: 0 });
    expect(partition!.segments).toBeGreaterThan(4);
    await reading.return(undefined);
  });

  it('topics come, grow, change and go', async () => {
    const ottla = await readOnly();
    await tell('create', 'later', { partitions: 2 });
    await tell('send', 'later', 1, 3);
    expect(await ottla.topics.list()).toEqual(['later', 'orders']);
    expect(values(await collect(ottla.read('later')))).toEqual([0, 1, 2]);
    await tell('grow', 'later', 3);
    await tell('send', 'later', 2, 1);
    expect(await collect(ottla.read('later'))).toHaveLength(4);
    await tell('alter', 'later', { maxMessageBytes: 5000 });
    expect((await ottla.topics.describe('later')).options).toMatchObject({
      partitions: 3,
      maxMessageBytes: 5000,
    });
    await tell('remove', 'later');
    expect(await ottla.topics.list()).toEqual(['orders']);
    expect(await failureOf(ottla.topics.describe('later'))).toMatchObject({
      code: 'UNKNOWN_TOPIC_OR_PARTITION',
    });
    await tell('create', 'later', {});
    await tell('send', 'later', 0, 1);
    expect(values(await collect(ottla.read('later')))).toEqual([4]);
  });

  it('commits show', async () => {
    const ottla = await readOnly();
    await tell('send', 'orders', 0, 5);
    await tell('commit', 'orders', 3);
    expect(await ottla.groups.list()).toEqual(['g']);
    expect((await ottla.groups.describe('g')).partitions).toMatchObject([{ committed: 3, lag: 2 }]);
    await tell('commit', 'orders', 5);
    expect((await ottla.groups.describe('g')).partitions).toMatchObject([{ committed: 5, lag: 0 }]);
  });

  it('nothing can be changed, and nothing is', async () => {
    await tell('send', 'orders', 0, 20);
    const before = snapshot();
    const ottla = await readOnly();
    expect(ottla.recovery).toEqual([]);
    const refused = expect.objectContaining({ code: 'INVALID_REQUEST', retriable: false }) as Error;
    expect(await failureOf(ottla.topics.create('more'))).toEqual(refused);
    expect(await failureOf(ottla.topics.alter('orders', {}))).toEqual(refused);
    expect(await failureOf(ottla.topics.addPartitions('orders', 2))).toEqual(refused);
    expect(await failureOf(ottla.topics.reopen('orders', 0))).toEqual(refused);
    expect(await failureOf(ottla.topics.delete('orders'))).toEqual(refused);
    expect(() => ottla.producer()).toThrow(refused);
    const member = async (): Promise<void> => {
      await ottla.consumer({ group: 'g', topics: ['orders'] }).ready();
    };
    expect(await failureOf(member())).toEqual(refused);
    expect(values(await collect(ottla.read('orders')))).toEqual(range(0, 20));
    await ottla.close();
    expect(snapshot()).toEqual(before);
    await tell('send', 'orders', 0, 1);
  });

  it('a kill of the owner changes nothing, and an incomplete batch is not read', async () => {
    await tell('send', 'orders', 0, 20);
    const ottla = await readOnly();
    expect(await collect(ottla.read('orders'))).toHaveLength(20);
    owner.process.kill('SIGKILL');
    await owner.ended();
    const [last] = fs
      .readdirSync(join(data, 'orders-0'))
      .filter((name) => name.endsWith('.log'))
      .toSorted()
      .toReversed();
    fs.appendFileSync(join(data, 'orders-0', last!), Buffer.alloc(30, 'torn'));
    const before = snapshot();
    expect(values(await collect(ottla.read('orders')))).toEqual(range(0, 20));
    const another = await readOnly();
    expect(values(await collect(another.read('orders')))).toEqual(range(0, 20));
    await another.close();
    await ottla.close();
    expect(snapshot()).toEqual(before);
    const next = closed(await Ottla.open(data));
    expect(next.recovery).toEqual([expect.stringMatching(/^orders-0: cut 30 bytes /) as unknown]);
    expect(values(await collect(next.read('orders')))).toEqual(range(0, 20));
  });
});
