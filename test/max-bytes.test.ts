import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { closedAfterEach } from './contract.js';
import { failureOf } from './machine.js';

const maxBytes = 10_000;
/** One record in one batch: its header, and the record with 9 bytes around the value. */
const value = 'x'.repeat(100);
const batchBytes = 61 + 9 + 100;

describe.each(['in memory', 'in a directory'])('maxBytes, %s', (where) => {
  let place: string;
  beforeEach(() => {
    place = mkdtempSync(join(tmpdir(), 'ottla-max-'));
  });
  const opened = closedAfterEach(() => rmSync(place, { recursive: true, force: true }));

  const open = async (max: number = maxBytes): Promise<Ottla> =>
    opened(
      where === 'in memory'
        ? Ottla.memory({ maxBytes: max })
        : await Ottla.open(join(place, 'data'), { maxBytes: max }),
    );

  async function bytesOf(ottla: Ottla): Promise<number> {
    let bytes = 0;
    for (const topic of await ottla.topics.list()) {
      const { partitions } = await ottla.topics.describe(topic);
      for (const partition of partitions) bytes += partition.bytes;
    }
    return bytes;
  }

  /** Sends until refused. */
  async function fill(ottla: Ottla, topic = 't'): Promise<{ sent: number; error: Error }> {
    const producer = ottla.producer();
    for (let sent = 0; ; sent++) {
      try {
        await producer.send(topic, { value, partition: sent % 2 });
      } catch (error) {
        return { sent, error: error as Error };
      }
    }
  }

  it('refuses what would pass it, and warns once at 90 %', async () => {
    const ottla = await open();
    ottla.on('error', () => undefined);
    const warnings: string[] = [];
    ottla.on('warning', (warning) => warnings.push(warning));
    await ottla.topics.create('t', { partitions: 2, segmentBytes: 1024 });
    const { sent, error } = await fill(ottla);
    const used = await bytesOf(ottla);
    expect(used).toBe(sent * batchBytes);
    expect(used).toBeLessThanOrEqual(maxBytes);
    expect(used + batchBytes).toBeGreaterThan(maxBytes);
    expect(error).toMatchObject({ code: 'KAFKA_STORAGE_ERROR', retriable: true });
    expect(error.message).toContain(`${used} of ${maxBytes} are used`);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(/the logs use 9\d\d\d bytes of maxBytes 10000/);
    // Refused, not failed: the partition takes what fits.
    const small = await ottla.producer().send('t', { value: 'y', partition: 0 });
    expect(small.offset).toBe(Math.ceil(sent / 2));
  });

  it('deleting a topic makes room, and the warning comes again', async () => {
    const ottla = await open();
    ottla.on('error', () => undefined);
    const warnings: string[] = [];
    ottla.on('warning', (warning) => warnings.push(warning));
    await ottla.topics.create('t', { partitions: 2, segmentBytes: 1024 });
    const { sent } = await fill(ottla);
    await ottla.topics.delete('t');
    await ottla.topics.create('u', { partitions: 2 });
    expect((await fill(ottla, 'u')).sent).toBe(sent);
    expect(warnings).toHaveLength(2);
  });

  it('records that are deleted make room, segment by segment', async () => {
    const ottla = await open();
    ottla.on('error', () => undefined);
    ottla.on('warning', () => undefined);
    await ottla.topics.create('t', { partitions: 2, segmentBytes: 1024 });
    const { sent } = await fill(ottla);
    const used = await bytesOf(ottla);
    await ottla.topics.deleteRecords('t', 0, Math.floor(sent / 2));
    const freed = used - (await bytesOf(ottla));
    expect(freed).toBeGreaterThan(3000);
    expect((await fill(ottla)).sent).toBeGreaterThanOrEqual(Math.floor(freed / batchBytes));
    expect(await bytesOf(ottla)).toBeLessThanOrEqual(maxBytes);
  });

  it.runIf(where === 'in a directory')('counts what is there when it opens', async () => {
    const first = await open(1_000_000);
    await first.topics.create('t', { partitions: 2, segmentBytes: 1024 });
    const producer = first.producer();
    for (let i = 0; i < 50; i++) await producer.send('t', { value, partition: i % 2 });
    await first.close();
    const ottla = await open();
    ottla.on('error', () => undefined);
    ottla.on('warning', () => undefined);
    const { sent } = await fill(ottla);
    expect(50 + sent).toBe(Math.floor(maxBytes / batchBytes));
    await ottla.close();
    const full = await open(5000);
    expect(full.recovery).toEqual([expect.stringContaining('of maxBytes 5000') as unknown]);
    full.on('error', () => undefined);
    expect((await fill(full)).sent).toBe(0);
    await full.topics.reopen('t', 0);
    expect((await fill(full)).error.message).toContain(`${await bytesOf(full)} of 5000`);
  });

  it('takes a number of bytes', async () => {
    expect(await failureOf(open(0))).toBeInstanceOf(RangeError);
    expect(await failureOf(open('1' as never))).toBeInstanceOf(TypeError);
  });
});
