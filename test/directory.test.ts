import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Ottla, type OttlaError } from '../src/index.js';
import { openLmdbStore } from '../src/storage/lmdb-store.js';
import { put } from '../src/storage/meta-store.js';
import { processSyncs } from '../src/storage/sync-queue.js';
import { closedAfterEach, collect } from './contract.js';
import { failureOf } from './machine.js';

let place: string;
let data: string;
/** What fill() makes, made once. */
let template: string;
beforeAll(async () => {
  template = fs.mkdtempSync(join(tmpdir(), 'ottla-template-'));
  await fill(template);
});
afterAll(() => fs.rmSync(template, { recursive: true, force: true }));
beforeEach(() => {
  place = fs.mkdtempSync(join(tmpdir(), 'ottla-directory-'));
  data = join(place, 'data');
});
afterEach(() => fs.rmSync(place, { recursive: true, force: true }));
const closed = closedAfterEach();

async function open(path = data, options = {}): Promise<Ottla> {
  return closed(await Ottla.open(path, options));
}

async function refusal(path = data, options = {}): Promise<OttlaError> {
  return failureOf(open(path, options));
}

/** Topic `orders` with ten records in two partitions, and a group that has committed; closed. */
async function fill(directory: string): Promise<void> {
  const ottla = await Ottla.open(directory);
  await ottla.topics.create('orders', { partitions: 2, segmentBytes: 1024 });
  const producer = ottla.producer();
  for (let i = 0; i < 10; i++) {
    await producer.send('orders', { value: `${i}`.padStart(300, '.'), partition: i % 2 });
  }
  const consumer = ottla.consumer({ group: 'g', topics: ['orders'], autoCommit: false });
  await consumer.ready();
  await consumer.commit([{ topic: 'orders', partition: 1, offset: 3 }]);
  await ottla.close();
}

function copyFilled(): void {
  fs.cpSync(template, data, { recursive: true });
}

async function expectFilled(ottla: Ottla): Promise<void> {
  const records = await collect(ottla.read('orders'));
  const values = records.map(({ value }) => Number(String(value).replaceAll('.', '')));
  expect(values.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const { partitions } = await ottla.groups.describe('g');
  expect(partitions.map(({ committed }) => committed)).toEqual([0, 3]);
}

/** Every path below a directory with its bytes; of LMDB's reader table and of the lock only that it is there. */
function snapshot(directory: string): Record<string, string> {
  const entries = fs.readdirSync(directory, { recursive: true, encoding: 'utf8' }).toSorted();
  return Object.fromEntries(
    entries.map((name) => {
      const path = join(directory, name);
      if (fs.statSync(path).isDirectory()) return [name, 'directory'];
      if (/(^|[/\\])lock(\.mdb)?$/.test(name)) return [name, 'lock'];
      return [name, fs.readFileSync(path, 'hex')];
    }),
  );
}

async function expectLostAndUntouched(): Promise<OttlaError> {
  const before = snapshot(data);
  const error = await refusal();
  expect(error).toMatchObject({ name: 'OttlaError', code: 'METADATA_LOST', retriable: false });
  expect(error.message).toContain(data);
  expect(snapshot(data)).toEqual(before);
  expect(await refusal(data, { readOnly: true })).toMatchObject({ code: 'METADATA_LOST' });
  expect(snapshot(data)).toEqual(before);
  return error;
}

describe('open refuses, and does not touch,', () => {
  async function expectRefused(path: string, problem: string): Promise<void> {
    const before = snapshot(place);
    for (const readOnly of [false, true]) {
      const error = await refusal(path, { readOnly });
      expect(error).toMatchObject({ code: 'KAFKA_STORAGE_ERROR', retriable: false });
      expect(error.message).toContain(path);
      expect(error.message).toContain(problem);
      expect(snapshot(place)).toEqual(before);
    }
  }

  it('a file', async () => {
    fs.writeFileSync(data, 'text');
    await expectRefused(data, 'is a file, expected a directory');
  });

  it('a path below a file', async () => {
    fs.writeFileSync(data, 'text');
    await expectRefused(join(data, 'below'), 'ENOTDIR');
  });

  it.each([
    ['files', ['package.json', 'index.js']],
    ['one file', ['notes.txt']],
    ['a meta of its own', ['meta/readme.txt', 'main.c']],
    ["a file that looks like a partition's directory", ['data-0']],
    ['a lock of its own', ['lock', 'main.db']],
  ])("another program's directory with %s", async (_what, names) => {
    for (const name of names) {
      fs.mkdirSync(join(data, name, '..'), { recursive: true });
      fs.writeFileSync(join(data, name), name);
    }
    await expectRefused(data, 'is no Ottla directory');
  });

  it("Kafka's own log directory", async () => {
    fs.mkdirSync(join(data, 'orders-0'), { recursive: true });
    const kafka = 'version=1\ncluster.id=x\nnode.id=1\ndirectory.id=AAAAAAAAQACAAAAAAAAAAA\n';
    fs.writeFileSync(join(data, 'meta.properties'), kafka);
    await expectLostAndUntouched();
    fs.rmSync(join(data, 'orders-0'), { recursive: true });
    await expectRefused(data, 'is no Ottla directory');
  });

  it('nothing, to read only', async () => {
    const error = await refusal(data, { readOnly: true });
    expect(error).toMatchObject({ code: 'KAFKA_STORAGE_ERROR', retriable: false });
    expect(fs.existsSync(data)).toBe(false);
  });

  // As root everything is writable, and on Windows the bit means something else.
  it.skipIf(process.getuid === undefined || process.getuid() === 0)(
    'a directory that may not be written to',
    async () => {
      copyFilled();
      fs.chmodSync(data, 0o555);
      expect(await refusal()).toMatchObject({ code: 'KAFKA_STORAGE_ERROR', retriable: false });
      fs.chmodSync(data, 0o755);
      await expectFilled(await open());
    },
  );

  it('a format of a later version', async () => {
    copyFilled();
    const store = await openLmdbStore(join(data, 'meta'));
    const { storeId } = store.get(['store'])!;
    await store.write([put(['store'], { formatVersion: 2, storeId })]);
    await store.close();
    const before = snapshot(data);
    expect(await refusal()).toMatchObject({ code: 'UNSUPPORTED_FOR_MESSAGE_FORMAT' });
    expect(snapshot(data)).toEqual(before);
  });
});

describe('metadata is lost, and nothing touched,', () => {
  const meta = (): string => join(data, 'meta');
  const dataFile = (): string => join(meta(), 'data.mdb');
  const properties = (): string => join(data, 'meta.properties');
  beforeEach(copyFilled);

  it.each([
    ['meta/ is gone', () => fs.rmSync(meta(), { recursive: true })],
    ['meta/ is empty', () => fs.readdirSync(meta()).map((name) => fs.rmSync(join(meta(), name)))],
    ['data.mdb is gone', () => fs.rmSync(dataFile())],
    ['data.mdb is empty', () => fs.truncateSync(dataFile())],
    ['data.mdb is zeros', () => fs.writeFileSync(dataFile(), Buffer.alloc(32_768))],
    ['data.mdb is garbage', () => fs.writeFileSync(dataFile(), Buffer.alloc(32_768, 'garbage'))],
    ['data.mdb is cut', () => fs.truncateSync(dataFile(), 8192)],
    ['meta.properties is gone', () => fs.rmSync(properties())],
    ['meta.properties is empty', () => fs.writeFileSync(properties(), '')],
    ['meta.properties is garbage', () => fs.writeFileSync(properties(), '\0\xff')],
    [
      'meta.properties names another store',
      () => fs.writeFileSync(properties(), 'version=1\nstore.id=AAAAAAAAQACAAAAAAAAAAA\n'),
    ],
    [
      'both are gone',
      () => {
        fs.rmSync(meta(), { recursive: true });
        fs.rmSync(properties());
      },
    ],
  ])('where %s', async (_what, damage) => {
    const whole = join(place, 'whole');
    fs.cpSync(data, whole, { recursive: true });
    damage();
    await expectLostAndUntouched();
    await expectFilled(await open(whole));
  });

  it('where meta/ is that of another directory', async () => {
    const other = join(place, 'other');
    await fill(other);
    fs.rmSync(meta(), { recursive: true });
    fs.cpSync(join(other, 'meta'), meta(), { recursive: true });
    const { message } = await expectLostAndUntouched();
    const idOf = (directory: string): string =>
      /store\.id=(\S+)/.exec(fs.readFileSync(join(directory, 'meta.properties'), 'utf8'))![1]!;
    expect(message).toContain(idOf(data));
    expect(message).toContain(idOf(other));
  });

  it('where meta/ is older than the segments', async () => {
    const older = join(place, 'older');
    fs.cpSync(meta(), older, { recursive: true });
    const ottla = await open();
    const producer = ottla.producer();
    for (let i = 0; i < 10; i++) {
      await producer.send('orders', { value: 'x'.repeat(500), partition: 0 });
    }
    await ottla.close();
    fs.rmSync(meta(), { recursive: true });
    fs.cpSync(older, meta(), { recursive: true });
    const before = snapshot(data);
    expect(await refusal()).toMatchObject({ code: 'METADATA_LOST' });
    expect(snapshot(data)).toEqual(before);
  });
});

describe('open', () => {
  it('creates the directory and its parents', async () => {
    const deep = join(data, 'a', 'b');
    await fill(deep);
    await expectFilled(await open(deep));
  });

  it.each([
    ['nothing', []],
    ['a lock', ['lock']],
    ['a lock and an empty meta/', ['lock', 'meta/']],
    ['an empty data.mdb', ['lock', 'meta/', 'meta/data.mdb', 'meta/lock.mdb']],
    ['a temporary file', ['lock', 'meta/', 'meta/data.mdb', 'meta.properties.tmp']],
    ["a file of the system's", ['.DS_Store', 'Thumbs.db', 'desktop.ini', 'lost+found/']],
  ])('state: first opening cut short (%s)', async (_what, names) => {
    fs.mkdirSync(data);
    for (const name of names) {
      if (name.endsWith('/')) fs.mkdirSync(join(data, name));
      else fs.writeFileSync(join(data, name), '');
    }
    await fill(data);
    await expectFilled(await open());
  });

  it('state: store row without meta.properties', async () => {
    await (await open()).close();
    fs.rmSync(join(data, 'meta.properties'));
    await fill(data);
    await expectFilled(await open());
  });

  it('ignores and keeps files that it does not know', async () => {
    copyFilled();
    const names = ['.DS_Store', 'notes.txt', 'meta.properties~', 'orders-0/.00.log.swp'];
    for (const name of names) fs.writeFileSync(join(data, name), name);
    fs.mkdirSync(join(data, 'stranger-7'));
    const ottla = await open();
    expect(ottla.recovery).toEqual([]);
    await expectFilled(ottla);
    await ottla.topics.delete('orders');
    await ottla.close();
    for (const name of names.slice(0, 3)) {
      expect(fs.readFileSync(join(data, name), 'utf8')).toBe(name);
    }
    expect(fs.existsSync(join(data, 'stranger-7'))).toBe(true);
  });

  it('says in a warning what a partition turns out to lack when it is first used', async () => {
    copyFilled();
    fs.rmSync(join(data, 'orders-0', '00000000000000000000.log'));
    fs.rmSync(join(data, 'orders-1', '00000000000000000002.log'));
    const ottla = await open();
    const warnings: string[] = [];
    ottla.on('warning', (warning) => warnings.push(warning)).on('error', () => undefined);
    const all = await failureOf(collect(ottla.read('orders', { partitions: [1] })));
    expect(all).toMatchObject({ code: 'CORRUPT_MESSAGE' });
    expect(all.message).toContain('00000000000000000002.log');
    const rest = await collect(ottla.read('orders', { partitions: [0] }));
    expect(rest.map(({ offset }) => offset)).toEqual([2, 3, 4]);
    expect([...ottla.recovery, ...warnings]).toEqual([
      expect.stringMatching(/^orders-\d.*\.$/) as unknown,
      expect.stringMatching(/^orders-\d.*\.$/) as unknown,
    ]);
    const producer = ottla.producer();
    const sent = producer.send('orders', { value: 'x', partition: 1 });
    expect(await failureOf(sent)).toMatchObject({ code: 'CORRUPT_MESSAGE' });
    expect(await producer.send('orders', { value: 'x', partition: 0 })).toMatchObject({
      offset: 5,
    });
  });

  it('works through a link, and by a relative path', async () => {
    copyFilled();
    const link = join(place, 'link');
    fs.symlinkSync(data, link, 'junction');
    const ottla = await open(link);
    await expectFilled(ottla);
    expect(await refusal()).toMatchObject({ code: 'LOCKED' });
    await ottla.close();
    await expectFilled(await open(relative(process.cwd(), data)));
  });

  it("does not take another program's directory through a link either", async () => {
    fs.mkdirSync(data);
    fs.writeFileSync(join(data, 'main.db'), '');
    const link = join(place, 'link');
    fs.symlinkSync(data, link, 'junction');
    expect(await refusal(link)).toMatchObject({ code: 'KAFKA_STORAGE_ERROR' });
    expect(fs.readdirSync(data)).toEqual(['main.db']);
  });
});

describe('close', () => {
  it('is idempotent, and refuses what comes later', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producer = ottla.producer();
    const sent = producer.send('orders', { value: 'x' });
    await Promise.all([ottla.close(), ottla.close({ timeoutMs: 60_000 }), ottla.close()]);
    expect(await sent).toMatchObject({ offset: 0 });
    await ottla.close();
    expect(() => ottla.producer()).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    expect(await failureOf(ottla.topics.list())).toMatchObject({ code: 'CLOSED' });
  });

  it('ends with REQUEST_TIMED_OUT when it takes too long, and goes on all the same', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    let letSyncsGo = (): void => undefined;
    const held = new Promise<void>((resolve) => (letSyncsGo = resolve));
    const occupied = [processSyncs.run(() => held), processSyncs.run(() => held)];
    const sent = ottla.producer().send('orders', { value: 'x' });
    expect(await failureOf(ottla.close({ timeoutMs: 1 }))).toMatchObject({
      code: 'REQUEST_TIMED_OUT',
    });
    expect(await refusal()).toMatchObject({ code: 'LOCKED' });
    letSyncsGo();
    await Promise.all(occupied);
    await ottla.close();
    expect(await sent).toMatchObject({ offset: 0 });
    expect(await collect((await open()).read('orders'))).toHaveLength(1);
  });

  it.runIf(process.platform === 'linux')('leaves no file open, nor does a refusal', async () => {
    const openFiles = (): number => fs.readdirSync('/proc/self/fd').length;
    copyFilled();
    const useOnce = async (): Promise<void> => {
      const ottla = await Ottla.open(data);
      const reading = ottla.read('orders')[Symbol.asyncIterator]();
      await reading.next();
      await ottla.close();
      const readOnly = await Ottla.open(data, { readOnly: true });
      await collect(readOnly.read('orders'));
      await readOnly.close();
    };
    await useOnce();
    const before = openFiles();
    for (let i = 0; i < 25; i++) await useOnce();
    // Files of tests that ended before may close meanwhile.
    expect(openFiles()).toBeLessThanOrEqual(before);
    fs.appendFileSync(join(data, 'orders-1', '00000000000000000004.log'), 'torn');
    fs.writeFileSync(join(data, 'orders-1', '00000000000000009999.log'), '');
    for (let i = 0; i < 5; i++) {
      expect(await refusal()).toMatchObject({ code: 'METADATA_LOST' });
    }
    expect(openFiles()).toBeLessThanOrEqual(before);
  });
});
