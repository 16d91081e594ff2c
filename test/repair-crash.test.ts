import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { repairDirectory } from '../src/repair.js';
import { systemDisk } from '../src/storage/disk.js';
import type { FileSystem } from '../src/storage/file-system.js';
import { nodeFiles } from '../src/storage/node-files.js';
import { collect } from './contract.js';
import { WatchedFiles, ioError } from './watched-files.js';

const changing = new Set([
  'write',
  'truncate',
  'sync',
  'replaceFile',
  'makeDirectory',
  'rename',
  'removeFile',
  'removeDirectory',
  'syncDirectory',
]);

/** Every file with its bytes, but those that say when, and LMDB's. */
function snapshot(directory: string): Record<string, string> {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  return Object.fromEntries(
    names
      .filter((name) => !/(?:^|[/\\])(?:lock|meta[^/\\]*)(?:[/\\]|$)/.test(name))
      .filter((name) => statSync(join(directory, name)).isFile())
      .map((name) => [name, readFileSync(join(directory, name), 'hex')]),
  );
}

/** What a user finds: records by offset, log starts, ends and commits. */
async function contentOf(directory: string): Promise<unknown> {
  await using ottla = await Ottla.open(directory);
  const found: unknown[] = [];
  for (const topic of await ottla.topics.list()) {
    const { id, partitions } = await ottla.topics.describe(topic);
    const places = partitions.map(({ logStartOffset, highWatermark }) => [
      logStartOffset,
      highWatermark,
    ]);
    const records = await collect(ottla.read(topic));
    found.push(
      topic,
      id,
      places,
      records.map(({ partition, offset, key, value }) => [
        partition,
        offset,
        String(key),
        String(value),
      ]),
    );
  }
  for (const group of await ottla.groups.list()) {
    const { partitions } = await ottla.groups.describe(group);
    found.push(
      group,
      partitions.map(({ topic, partition, committed }) => [topic, partition, committed]),
    );
  }
  return found;
}

let place: string;
let sound: string;
beforeAll(async () => {
  place = mkdtempSync(join(tmpdir(), 'ottla-repair-crash-'));
  sound = join(place, 'sound');
  const ottla = await Ottla.open(sound);
  await ottla.topics.create('t', { partitions: 2, segmentBytes: 1024 });
  await ottla.topics.create('k', {
    segmentBytes: 1024,
    cleanupPolicy: 'compact',
    minCleanableDirtyRatio: 0,
  });
  const producer = ottla.producer();
  for (let i = 0; i < 40; i++) {
    await producer.send('t', { value: `${i}`.padStart(60, '.'), partition: i % 2, timestamp: i });
    const key = `k${i % 3}`;
    await producer.send('k', { key, value: `${i}`.padStart(60, '.'), timestamp: i });
  }
  await ottla.topics.deleteRecords('t', 1, 9);
  const consumer = ottla.consumer({ group: 'g', topics: ['t'] });
  await consumer.ready();
  await consumer.commit([
    { topic: 't', partition: 0, offset: 3 },
    { topic: 't', partition: 1, offset: 12 },
  ]);
  await ottla.close();
});
afterAll(() => rmSync(place, { recursive: true, force: true }));

async function repairOn(files: FileSystem, directory: string): Promise<void> {
  await repairDirectory(directory, Math.random, undefined, { ...(await systemDisk()), files });
}

const logsOf = (directory: string, partition: string): string[] =>
  readdirSync(join(directory, partition)).filter((name) => name.endsWith('.log'));

describe('repair, cut short by a crash at any call', () => {
  const flip = (path: string, at: number): void => {
    const bytes = readFileSync(path);
    bytes[at]! ^= 1;
    nodeFiles.removeFile(path);
    const file = nodeFiles.open(path, 'write');
    file.write(bytes, 0, bytes.length, 0);
    file.close();
  };
  const damages: Record<string, (directory: string) => void> = {
    'of lost metadata': (directory) => rmSync(join(directory, 'meta'), { recursive: true }),
    'of a damaged sealed segment': (directory) =>
      flip(join(directory, 't-0', logsOf(directory, 't-0')[1]!), 300),
    'of a damaged active segment': (directory) =>
      flip(join(directory, 't-1', logsOf(directory, 't-1').at(-1)!), 90),
    'of wrong indexes': (directory) => {
      for (const name of readdirSync(join(directory, 'k-0'))) {
        if (name.endsWith('index')) flip(join(directory, 'k-0', name), 3);
      }
      const [log] = logsOf(directory, 't-0');
      nodeFiles.rename(
        join(directory, 't-0', log!.replace('log', 'timeindex')),
        join(directory, 't-0', log!.replace('log', 'index')),
      );
    },
  };

  it.each(Object.keys(damages))('%s, and done again, ends as if it had not been', async (what) => {
    const damaged = join(place, `damaged, ${what}`);
    cpSync(sound, damaged, { recursive: true });
    damages[what]!(damaged);
    const wanted = join(place, `wanted, ${what}`);
    cpSync(damaged, wanted, { recursive: true });
    let calls = 0;
    const counted = new WatchedFiles(nodeFiles, ({ name }) => {
      if (changing.has(name)) calls++;
      return undefined;
    });
    await repairOn(counted, wanted);
    const files = snapshot(wanted);
    const content = await contentOf(wanted);
    expect(calls).toBeGreaterThan(4);
    for (let last = 0; last < calls; last++) {
      const directory = join(place, `crashed, ${what}`);
      cpSync(damaged, directory, { recursive: true });
      let left = last;
      const dying = new WatchedFiles(nodeFiles, ({ name, path }) => {
        if (changing.has(name) && left-- <= 0) throw ioError(name, path);
        return undefined;
      });
      await expect(repairOn(dying, directory), `${last}`).rejects.toThrow('EIO');
      await repairOn(nodeFiles, directory);
      const again = snapshot(directory);
      // Of metadata that is lost nobody knows that the epoch, which has no records yet, was begun before.
      const isEpoch = (name: string): boolean => name.endsWith('leader-epoch-checkpoint');
      const others = (found: Record<string, string>): unknown =>
        Object.entries(found).filter(([name]) => !isEpoch(name) && !name.endsWith('.tmp'));
      expect(others(again), `${last}`).toEqual(others(files));
      expect((await Ottla.verify(directory)).problems, `${last}`).toEqual([]);
      expect(await contentOf(directory), `${last}`).toEqual(content);
      rmSync(directory, { recursive: true });
    }
  });
});

describe('repair of a directory in which all is well', () => {
  it('changes no byte of it, compacted topics, deleted records and commits included', async () => {
    const directory = join(place, 'well');
    cpSync(sound, directory, { recursive: true });
    const all = (): Record<string, string> =>
      Object.fromEntries(
        readdirSync(directory, { recursive: true, encoding: 'utf8' })
          .filter((name) => name !== 'lock' && statSync(join(directory, name)).isFile())
          .map((name) => [name, readFileSync(join(directory, name), 'hex')]),
      );
    const before = all();
    expect(Object.keys(before).some((name) => /^k-0.*log$/.test(name))).toBe(true);
    expect(await Ottla.repair(directory)).toEqual([]);
    expect(all()).toEqual(before);
  });
});
