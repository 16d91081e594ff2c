import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Ottla } from '../../src/index.js';
import { RecordReader } from '../../src/record-reader.js';
import { checkBatch, readBatchHeader } from '../../src/record.js';
import { kafka, notRun, TestBroker, whyNotRun } from './kafka-tools.js';
import { filesOf } from './written-logs.js';

const codecs = ['gzip', 'snappy', 'lz4', 'zstd'] as const;

/** Repeats itself, and does not; batches of one record, of many, and of more than a codec's block. */
function* values(): Generator<string> {
  yield 'one';
  for (let i = 0; i < 2000; i++)
    yield `value ${i} ${'-'.repeat(i % 120)} ${(i * 2_654_435_761) % 2 ** 32}`;
  yield 'x'.repeat(300_000);
  for (let i = 0; i < 50; i++) yield Buffer.alloc(3000, `${i} ż 🗝 `).toString();
}

describe.skipIf(whyNotRun !== null)(`compressed records and Kafka${notRun}`, () => {
  let parent: string;
  beforeAll(() => {
    parent = mkdtempSync(join(tmpdir(), 'ottla-compression-'));
  });
  afterAll(() => rmSync(parent, { recursive: true, force: true }));

  it.each(codecs)("with %s are read by Kafka's dump-log, each one", async (compression) => {
    const directory = join(parent, compression);
    const ottla = await Ottla.open(directory);
    await ottla.topics.create('t', { compression });
    const producer = ottla.producer();
    const [first, ...rest] = [...values()];
    await producer.send('t', { key: 'k', value: first! });
    await Promise.all(rest.slice(0, 500).map((value) => producer.send('t', { key: 'k', value })));
    await producer.sendBatch(
      't',
      rest.slice(500).map((value) => ({ key: 'k', value })),
    );
    await ottla.close();
    const logs = filesOf(directory, 't-0', '.log').join(',');
    const { stdout } = await kafka('dump-log', '--print-data-log', '--files', logs);
    const batches = stdout.split('\n').filter((line) => line.startsWith('baseOffset: '));
    expect(batches.length).toBeGreaterThan(3);
    for (const line of batches) {
      expect(line).toContain(`compresscodec: ${compression} `);
      expect(line).toContain('isvalid: true');
    }
    const payloads = [...stdout.matchAll(/^\| offset: (\d+) .* payload: (.*)$/gm)];
    expect(payloads.map(([, offset]) => Number(offset))).toEqual([first, ...rest].map((_, i) => i));
    expect(payloads.map(([, , payload]) => payload)).toEqual([first, ...rest]);
  });
});

describe.skipIf(whyNotRun !== null)(`records that Kafka's producer compressed${notRun}`, () => {
  let parent: string;
  let broker: TestBroker | undefined;
  const lines = [...values()].filter((value) => value.length < 10_000);

  beforeAll(async () => {
    parent = mkdtempSync(join(tmpdir(), 'ottla-compression-'));
    const payloads = join(parent, 'payloads');
    writeFileSync(payloads, lines.join('\n'));
    broker = await TestBroker.start(join(parent, 'broker'));
    for (const codec of codecs) {
      await broker.kafka('topics', '--create', '--topic', codec);
      await kafka(
        'producer-perf-test',
        ...`--topic ${codec} --num-records 3000 --throughput -1 --payload-file ${payloads}`.split(
          ' ',
        ),
        '--producer-props',
        `bootstrap.servers=${broker.server}`,
        `compression.type=${codec}`,
        'linger.ms=20',
      );
    }
    await broker.stop();
  });
  afterAll(async () => {
    await broker?.stop();
    rmSync(parent, { recursive: true, force: true });
  });

  it.each(codecs)('with %s are read', (codec) => {
    const [log] = filesOf(join(broker!.directory, 'data'), `${codec}-0`, '.log');
    const bytes = readFileSync(log!);
    const known = new Set(lines);
    const records = new RecordReader();
    let count = 0;
    for (let at = 0; at < bytes.length;) {
      const header = readBatchHeader(bytes, at, bytes.length)!;
      expect(header.compression).toBe(codec);
      checkBatch(bytes, at, header);
      records.open(bytes, at, header);
      for (; records.next(); count++) {
        expect(records.offset).toBe(count);
        expect(known.has(String(records.value(false)))).toBe(true);
      }
      at += header.size;
    }
    expect(count).toBe(3000);
  });
});
