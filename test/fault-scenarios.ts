import { join } from 'node:path';
import { partitionMetadataFile } from '../src/storage/checkpoint.js';
import { fileError } from '../src/storage/file-system.js';
import { directory, transactionTopic, type Trial } from './fault-trial.js';

/** A workload: what comes before the faults, and what meets them. */
export interface Scenario {
  readonly prepare?: (trial: Trial) => Promise<void>;
  readonly run: (trial: Trial) => Promise<void>;
}

const small = { segmentBytes: 1024, indexIntervalBytes: 300 };

/** Two partitions with some sealed segments each. */
async function filled(trial: Trial, topic = 'orders'): Promise<void> {
  await trial.create(topic, { ...small, partitions: 2 });
  for (const partition of [0, 1]) {
    for (let i = 0; i < 6; i++) await trial.send(topic, partition, 2);
  }
}

/** As filled(), of a directory that nobody has open. */
async function closed(trial: Trial): Promise<void> {
  await trial.open();
  await filled(trial);
  await trial.consume('orders');
  await trial.close();
}

const name = (base: number, suffix: string): string =>
  `orders-0/${String(base).padStart(20, '0')}.${suffix}`;

/** A compaction has committed segments that could not be given their names. */
async function halfSwapped(trial: Trial): Promise<void> {
  await trial.open();
  await trial.create('orders', { ...small, cleanupPolicy: 'compact', minCleanableDirtyRatio: 0.1 });
  trial.disk.onCall = ({ name: call, path }) =>
    call === 'rename' && path.endsWith('.swap') ? fileError('ENOSPC', call, path) : undefined;
  // The last of these stays in the compacted segment: its key does not come again.
  trial.keys = 4;
  await trial.send('orders', 0, 4);
  trial.keys = 3;
  for (let i = 0; i < 8; i++) await trial.send('orders', 0, 3);
}

function bases(trial: Trial): number[] {
  return trial.disk.raw
    .list(join(directory, 'orders-0'))
    .filter((file) => file.endsWith('.log'))
    .map((file) => Number.parseInt(file, 10));
}

function flip(at: number): (bytes: Buffer) => Buffer {
  return (bytes) => {
    bytes[at] = bytes[at]! ^ 0x10;
    return bytes;
  };
}

export const scenarios: Readonly<Record<string, Scenario>> = {
  /** From a directory that is not there to one that is closed and opened again. */
  life: {
    async run(trial) {
      await trial.open();
      await trial.create('orders', { ...small, partitions: 2 });
      await trial.create('short', { ...small, retentionBytes: 2048 });
      await trial.create('doomed', {});
      for (let i = 0; i < 4; i++) {
        await trial.send('orders', 0, 2);
        await trial.send('orders', 1, 2, 1);
        await trial.send('short', 0, 3, i % 2 === 0 ? 1 : 'all');
      }
      await trial.send('orders', 0, 1, 0);
      await trial.send('doomed', 0, 2);
      await trial.sendBatch('orders', 1, 12);
      await trial.objects(2);
      await trial.read('orders', { from: new Date(1_700_000_000_100) });
      await trial.consume('orders');
      await trial.alter('short', { retentionBytes: 1024 });
      await trial.advance(6000);
      await trial.send('orders', 0, 1);
      await trial.deleteRecords('orders', 1, 9);
      await trial.advance(300_000);
      await trial.addPartitions('orders', 3);
      await trial.send('orders', 2, 2);
      await trial.reopen('orders', 0);
      await trial.delete('doomed');
      await trial.read('short');
      await trial.close();
      await trial.open();
      await trial.read('orders');
      await trial.read('orders', { from: new Date(1_700_000_000_100) });
      await trial.consume('orders');
      await trial.send('orders', 0, 3);
    },
  },

  /** Opening after a kill that tore a log, and left a topic half made and one half deleted. */
  'after a kill': {
    async prepare(trial) {
      await closed(trial);
      await trial.open();
      await trial.create('plain', { partitions: 2 });
      await trial.send('plain', 0, 2);
      await trial.close();
      await trial.open();
      // One has a recovery point, the other was never synced.
      for (const partition of [0, 1]) await trial.send('plain', partition, 1, 1);
      await trial.create('doomed', {});
      await trial.send('doomed', 0, 1);
      // The second begins a segment.
      for (let i = 0; i < 4; i++) await trial.send('orders', 0, 1, 1);
      await trial.send('orders', 1, 2, 1);
      trial.disk.onCall = ({ name: call }) =>
        call === 'removeDirectory' || call === 'syncDirectory'
          ? fileError('ENOSPC', call, directory)
          : undefined;
      await trial.create('late', { partitions: 2 });
      await trial.delete('doomed');
      trial.die();
      // The last write but one did not reach the disk, the last one did: neither was acknowledged as durable.
      trial.damage(name(bases(trial).at(-1)!, 'log'), (bytes) =>
        bytes.fill(0, bytes.length / 3, (2 * bytes.length) / 3),
      );
      const log = trial.model.get('orders')!.logs[0]!;
      for (const [value] of log.acknowledged.slice(-2)) log.sent.delete(value);
    },
    async run(trial) {
      await trial.open();
      await trial.read('orders');
      await trial.send('orders', 0, 1);
      await trial.send('plain', 0, 1);
      await trial.delete('late');
      await trial.close();
    },
  },

  /** Transactions that commit and abort, over rolls, a kill before one is forgotten, and what that leaves. */
  transactions: {
    async prepare(trial) {
      await trial.open();
      await trial.create('orders', { ...small, partitions: 2 });
      await trial.attempt('create', () =>
        trial.running.topics.create(transactionTopic, { ...small, partitions: 2 }),
      );
    },
    async run(trial) {
      for (let i = 0; i < 6; i++) {
        await trial.transaction(i % 2 === 0);
        await trial.advance(6000);
      }
      await trial.send('orders', 0, 1);
      await trial.transaction(true);
      await trial.advance(2000);
      await trial.close();
      await trial.verify();
      await trial.open();
      await trial.attempt('read', async () => {
        await trial.running.topics.describe(transactionTopic);
      });
      await trial.close();
    },
  },

  /** Opening after a kill between a transaction's decision and the end of it. */
  'a decided transaction': {
    async prepare(trial) {
      await trial.open();
      await trial.create('orders', { ...small, partitions: 2 });
      await trial.attempt('create', () =>
        trial.running.topics.create(transactionTopic, { ...small, partitions: 2 }),
      );
      await trial.transaction(true, () => trial.die());
    },
    async run(trial) {
      await trial.open();
      await trial.transaction(true);
      await trial.send('orders', 1, 1);
      await trial.close();
    },
  },

  /** Groups whose offsets expire. */
  'expiring offsets': {
    async prepare(trial) {
      await closed(trial);
      // As of a process that died with members in the group.
      trial.damage('meta/data.mdb', (rows) =>
        Buffer.from(String(rows).replaceAll(/,?"emptySince":\d+/g, '')),
      );
    },
    async run(trial) {
      await trial.open({ offsetsRetentionMs: 24 * 60 * 60 * 1000 });
      await trial.forgetGroup();
      await trial.close();
    },
  },

  /** A name that others have left something under. */
  leftovers: {
    async prepare(trial) {
      await closed(trial);
      await trial.open();
      trial.disk.raw.makeDirectory(join(directory, 'late-1'));
      trial.damage('late-1/left', () => Buffer.from('by somebody'));
    },
    async run(trial) {
      await trial.create('late', { partitions: 2 });
      await trial.send('late', 1, 1);
      await trial.close();
    },
  },

  /** A log whose sync failed is read again, and written again. */
  'after a failed sync': {
    async prepare(trial) {
      await closed(trial);
      await trial.open();
      trial.disk.onCall = ({ name: call, path }) =>
        call === 'sync' ? fileError('ENOSPC', call, path) : undefined;
      await trial.send('orders', 0, 2);
      trial.disk.onCall = () => undefined;
    },
    async run(trial) {
      await trial.reopen('orders', 0);
      await trial.send('orders', 0, 1);
      await trial.close();
    },
  },

  compaction: {
    async prepare(trial) {
      await trial.open();
      await trial.create('orders', {
        ...small,
        cleanupPolicy: 'compact',
        minCleanableDirtyRatio: 0.1,
      });
      for (let i = 0; i < 5; i++) await trial.send('orders', 0, 3);
    },
    async run(trial) {
      for (let i = 0; i < 3; i++) await trial.send('orders', 0, 3);
      await trial.advance(20_000);
      await trial.read('orders');
      await trial.close();
      await trial.open();
      await trial.read('orders');
    },
  },

  /** Opening where compacted segments were on the way to their names. */
  'half a swap': {
    async prepare(trial) {
      await halfSwapped(trial);
      trial.die();
    },
    async run(trial) {
      await trial.verify();
      await trial.open();
      await trial.read('orders');
      await trial.send('orders', 0, 1);
      await trial.close();
    },
  },

  /** The same, read by one that may change nothing. */
  'half a swap, read only': {
    async prepare(trial) {
      await halfSwapped(trial);
      trial.die();
    },
    async run(trial) {
      await trial.open({ readOnly: true });
      await trial.read('orders');
      await trial.close();
    },
  },

  /** Segments that could not be removed when they were freed are removed later. */
  'freed segments': {
    async prepare(trial) {
      await closed(trial);
      await trial.open();
      trial.disk.onCall = ({ name: call, path }) =>
        call === 'removeFile' ? fileError('ENOSPC', call, path) : undefined;
      await trial.deleteRecords('orders', 0, 9);
      trial.die();
    },
    async run(trial) {
      await trial.open();
      await trial.read('orders');
      await trial.advance(300_000);
      await trial.close();
    },
  },

  backup: {
    async prepare(trial) {
      await closed(trial);
      await trial.open();
      await filled(trial, 'prices');
      await trial.create('zero', {});
      await trial.send('zero', 0, 1);
      trial.damage('orders-0/leader-epoch-checkpoint', () => Buffer.from('0\n1\n0 0\n'));
    },
    async run(trial) {
      // While it is under way a topic goes, and segments of another that are copied already.
      const changes: Promise<void>[] = [];
      trial.disk.before = ({ name: call, path }) => {
        if (changes.length > 0 || call !== 'open' || !/^\/copy\/prices-1\/0+\.\w+$/.test(path))
          return;
        changes.push(trial.deleteRecords('prices', 1, 9), trial.delete('zero'));
      };
      if (await trial.backup('/copy')) await trial.verify('/copy');
      trial.disk.before = () => undefined;
      await Promise.all(changes);
      await trial.close();
    },
  },

  /** Whose compacted segments are not in place yet. */
  'backup of half a swap': {
    async prepare(trial) {
      await halfSwapped(trial);
      trial.disk.onCall = () => undefined;
    },
    async run(trial) {
      await trial.read('orders');
      await trial.backup('/copy');
      await trial.close();
    },
  },

  /** The oldest segments were removed by somebody. */
  'oldest segments gone': {
    async prepare(trial) {
      await closed(trial);
      const [first, second] = bases(trial);
      trial.damage(name(first!, 'log'), () => undefined);
      const log = trial.model.get('orders')!.logs[0]!;
      for (const [value, { offset }] of log.sent) if (offset < second!) log.sent.delete(value);
      log.highestStart = second!;
    },
    async run(trial) {
      await trial.open();
      await trial.read('orders');
      await trial.close();
    },
  },

  verify: {
    async prepare(trial) {
      await closed(trial);
      trial.damage('others-0/partition.metadata', () => Buffer.from('version: 0\n'));
    },
    async run(trial) {
      await trial.verify();
    },
  },
};

/** What is repaired: each with a different loss. Records that the loss took are the model's no more. */
const losses: Readonly<Record<string, (trial: Trial) => void>> = {
  'of metadata': (trial) => {
    trial.damage('meta/data.mdb', () => undefined);
    forgetCommits(trial);
  },
  'of all but the logs': (trial) => {
    trial.disk.raw.removeDirectory(join(directory, 'meta'));
    trial.damage('meta.properties', () => undefined);
    trial.damage(`orders-1/${partitionMetadataFile}`, () => undefined);
    forgetCommits(trial);
  },
  'of bytes in the active segment': (trial) => {
    const base = bases(trial).at(-1)!;
    // The first batch of it is whole.
    trial.damage(name(base, 'log'), (bytes) => flip(bytes.length - 50)(bytes));
    forgetFrom(trial, base + 2);
  },
  'of a sealed segment': (trial) => {
    const base = bases(trial)[1]!;
    trial.damage(name(base, 'log'), flip(100));
    forgetFrom(trial, base);
  },
  'of a directory': (trial) => {
    trial.disk.raw.removeDirectory(join(directory, 'orders-1'));
    forgetLog(trial, 1);
    forgetCommits(trial);
  },
  'of an id': (trial) => {
    isOfAnotherTopic(trial);
  },
  'of a log of another topic': (trial) => {
    isOfAnotherTopic(trial);
    for (const base of bases(trial)) {
      trial.damage(name(base, 'log'), (bytes) => flip(bytes.length - 50)(bytes));
    }
    forgetLog(trial, 0);
    forgetCommits(trial);
  },
  'of a repair half done': (trial) => {
    const { raw } = trial.disk;
    raw.makeDirectory(join(directory, 'meta.repair.tmp'));
    raw.rename(join(directory, 'meta'), join(directory, 'meta.repair.tmp'));
    const base = bases(trial).at(-1)!;
    trial.damage(name(base, 'log'), (bytes) => flip(bytes.length - 50)(bytes));
    forgetFrom(trial, base + 2);
  },
};

function isOfAnotherTopic(trial: Trial): void {
  trial.damage(`orders-0/${partitionMetadataFile}`, () =>
    Buffer.from('version: 0\ntopic_id: AAAAAAAAQAGAAAAAAAAAAQ'),
  );
}

function forgetFrom(trial: Trial, offset: number): void {
  const log = trial.model.get('orders')!.logs[0]!;
  for (const [value, sent] of log.sent) if (sent.offset >= offset) log.sent.delete(value);
  forgetCommits(trial);
}

/** Offsets that were given out are not given out again. */
function forgetLog(trial: Trial, partition: number): void {
  const log = trial.model.get('orders')!.logs[partition]!;
  log.highestStart = log.acknowledged.length;
  log.sent.clear();
}

function forgetCommits(trial: Trial): void {
  for (const log of trial.model.get('orders')!.logs) {
    log.maybeCommitted.add(log.committed ?? 0);
    log.committed = null;
    for (let offset = 0; offset <= 20; offset++) log.maybeCommitted.add(offset);
  }
}

const halfRepairs: Readonly<Record<string, Scenario>> = {
  'repair once more': {
    async prepare(trial) {
      await closed(trial);
      losses['of bytes in the active segment']!(trial);
      trial.disk.onCall = ({ name: call, path }) =>
        call === 'truncate' ? fileError('ENOSPC', call, path) : undefined;
      await trial.repair();
    },
    async run(trial) {
      await trial.repair();
      trial.needsRepair = true;
    },
  },
  'repair of half a swap': {
    async prepare(trial) {
      await halfSwapped(trial);
      trial.die();
      trial.damage('meta/data.mdb', () => undefined);
      forgetCommits(trial);
    },
    async run(trial) {
      await trial.repair();
      trial.needsRepair = true;
    },
  },
  'repair of a swap but for its last step': {
    async prepare(trial) {
      await trial.open();
      await trial.create('orders', {
        ...small,
        cleanupPolicy: 'compact',
        minCleanableDirtyRatio: 0.1,
      });
      trial.disk.onCall = ({ name: call, path }) =>
        call === 'removeFile' && path.endsWith('.deleted')
          ? fileError('ENOSPC', call, path)
          : undefined;
      for (let i = 0; i < 8; i++) await trial.send('orders', 0, 3);
      trial.die();
      trial.damage('meta/data.mdb', () => undefined);
      forgetCommits(trial);
    },
    async run(trial) {
      await trial.repair();
      trial.needsRepair = true;
    },
  },
};

export const repairs: Readonly<Record<string, Scenario>> = {
  ...halfRepairs,
  ...Object.fromEntries(
    Object.entries(losses).map(([what, lose]) => [
      `repair ${what}`,
      {
        async prepare(trial: Trial) {
          await closed(trial);
          lose(trial);
        },
        async run(trial: Trial) {
          await trial.verify();
          await trial.repair();
          trial.needsRepair = true;
        },
      },
    ]),
  ),
};
