import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import type { Ottla } from '../../src/index.js';
import { readBatchHeader, type BatchHeader } from '../../src/record.js';
import type { Server } from '../../src/server/index.js';
import { WireClient } from '../wire-client.js';
import { filesOf } from './written-logs.js';

/** What a client works with: an Ottla in `directory`, and in it `topic`, of 2 partitions. */
export interface Stage {
  readonly ottla: Ottla;
  readonly server: Server;
  readonly directory: string;
  readonly topic: string;
  /** What the client can compress with. */
  readonly codecs: readonly string[];
}

/** What a client is to do. What it finds wrong it says itself; `check` looks at what it has left behind. */
export interface Feature {
  /** What the clients' programs call it. */
  readonly name: string;
  readonly title: string;
  /** What exactly. */
  readonly what: string;
  readonly transport?: 'sasl' | 'tls';
  readonly prepare?: (stage: Stage) => Promise<void>;
  readonly check?: (stage: Stage) => Promise<void>;
}

/** Of SASL. */
export const user = { alice: 'secret' } as const;

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** 50 records in each partition, at the times 1000 and on: values 0-0, 0-1 …, a key, a header. */
async function fill({ ottla, topic }: Stage): Promise<void> {
  const producers = [ottla.producer(), ottla.producer({ compression: 'gzip' })];
  for (const i of upTo(50)) {
    for (const partition of [0, 1]) {
      const headers = { h: 'x' };
      const record = { key: 'k', value: `${partition}-${i}`, headers, partition };
      await producers[i % 2]!.send(topic, { ...record, timestamp: 1000 + i });
    }
  }
}

async function fillForTransactions(stage: Stage): Promise<void> {
  await fill(stage);
  await stage.ottla.topics.create(`${stage.topic}-out`, { partitions: 2 });
}

/** Waits for so many: what was sent with acks 0 may still be on its way. */
async function valuesOf({ ottla, topic }: Stage, count: number): Promise<string[]> {
  const values: string[] = [];
  for await (const { value } of ottla.read(topic, { until: 'never' })) {
    if (values.push(String(value)) === count) break;
  }
  for await (const { value } of ottla.read(topic, { from: 'latest' })) values.push(String(value));
  return values;
}

function batchesOf({ directory, topic }: Stage): BatchHeader[] {
  const headers: BatchHeader[] = [];
  for (const partition of [0, 1]) {
    for (const file of filesOf(directory, `${topic}-${partition}`, '.log')) {
      const bytes = readFileSync(file);
      for (let at = 0; at < bytes.length; at += headers.at(-1)!.size) {
        headers.push(readBatchHeader(bytes, at, bytes.length)!);
      }
    }
  }
  return headers;
}

async function committed({ ottla, topic }: Stage): Promise<unknown> {
  const { partitions } = await ottla.groups.describe(topic);
  return partitions.map((partition) => partition.committed);
}

async function expectAllRead({ ottla, topic }: Stage): Promise<void> {
  const { partitions } = await ottla.groups.describe(topic);
  expect(partitions.map(({ lag }) => lag)).toEqual([0, 0]);
  expect(partitions.reduce((sum, { end }) => sum + end, 0)).toBe(60);
}

export const features: readonly Feature[] = [
  {
    name: 'produce',
    title: 'produce',
    what: 'ten records with each of acks 0, 1 and all, with keys and headers',
    async check(stage) {
      const expected = ['0', '1', 'all'].flatMap((acks) => upTo(10).map((i) => `${acks}-${i}`));
      expect((await valuesOf(stage, 30)).toSorted()).toEqual(expected.toSorted());
      for await (const { key, value, headers } of stage.ottla.read(stage.topic)) {
        expect(String(key)).toBe(String(value).replace(/.*-/, 'k'));
        expect(headers).toEqual([['h', Buffer.from('x')]]);
      }
    },
  },
  {
    name: 'idempotent',
    title: 'idempotent',
    what: 'twenty records of an idempotent producer, in order',
    async check(stage) {
      expect(await valuesOf(stage, 20)).toEqual(upTo(20).map(String));
      const batches = batchesOf(stage);
      expect(batches.every(({ hasProducerId }) => hasProducerId)).toBe(true);
    },
  },
  {
    name: 'compression',
    title: 'compression',
    what: 'fifty records with each of gzip, snappy, lz4 and zstd are stored as they came',
    async check(stage) {
      const { codecs } = stage;
      const values = await valuesOf(stage, 50 * codecs.length);
      for (const codec of codecs) {
        const mine = values.filter((value) => value.startsWith(`${codec}-`));
        expect(mine).toEqual(upTo(50).map((i) => `${codec}-${i}`));
      }
      const stored = new Set<string>(batchesOf(stage).map(({ compression }) => compression));
      expect([...stored].toSorted()).toEqual(codecs.toSorted());
    },
  },
  {
    name: 'consume',
    title: 'consume',
    what: 'all records of two partitions in order, from an offset, and the offset of a time',
    prepare: fill,
  },
  {
    name: 'group',
    title: 'group',
    what: 'a second member joins and takes its share, and leaves again: each record is read once',
    check: expectAllRead,
  },
  {
    name: 'kip848',
    title: 'KIP-848',
    what: 'the same by the consumer protocol (`group.protocol=consumer`)',
    async check(stage) {
      await expectAllRead(stage);
      const client = new WireClient(stage.server.connect());
      const { groups } = await client.ask('ListGroups', { statesFilter: [], typesFilter: [] });
      expect(groups).toMatchObject([{ groupId: stage.topic, groupType: 'consumer' }]);
    },
  },
  {
    name: 'commit',
    title: 'commit',
    what: 'commits are read back, and the next member goes on behind them',
    prepare: fill,
    async check(stage) {
      expect(await committed(stage)).toEqual([50, 50]);
    },
  },
  {
    name: 'transactions',
    title: 'transactions',
    what:
      'read, write and commit offsets in a transaction, aborted and committed; read_committed and ' +
      'read_uncommitted; a producer with the same id fences the first',
    prepare: fillForTransactions,
    async check(stage) {
      expect(await committed(stage)).toEqual([50, 50]);
      const { ottla, topic } = stage;
      const values: string[] = [];
      for await (const { value } of ottla.read(`${topic}-out`)) values.push(String(value));
      const expected = upTo(50).flatMap((i) => [`yes 0-${i}`, `yes 1-${i}`]);
      expect(values.toSorted()).toEqual(expected.toSorted());
    },
  },
  {
    name: 'topics',
    title: 'topics',
    what: 'create, list, describe, add partitions, read and change configs, delete records, delete',
    async check({ ottla, topic }) {
      expect((await ottla.topics.list()).filter((name) => name !== topic)).toEqual([]);
    },
  },
  {
    name: 'groups',
    title: 'groups',
    what: 'list and describe groups, read and set their offsets, delete them',
    prepare: fill,
    async check({ ottla }) {
      expect(await ottla.groups.list()).toEqual([]);
    },
  },
  {
    name: 'sasl',
    title: 'SASL',
    what: 'PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512; a wrong password is refused',
    transport: 'sasl',
  },
  {
    name: 'tls',
    title: 'TLS',
    what: 'produce and consume over TLS, with the server’s certificate checked',
    transport: 'tls',
  },
];
