import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Ottla } from '../../src/index.js';
import { kafka, notRun, whyNotRun } from './kafka-tools.js';
import { filesOf } from './written-logs.js';

/** Ten transactions of three records each, every third aborted, among records of an idempotent producer. */
async function writeTransactions(directory: string): Promise<void> {
  const ottla = await Ottla.open(directory);
  await ottla.topics.create('orders', { segmentBytes: 1024 });
  const tx = ottla.producer({ transactionalId: 'a' });
  const plain = ottla.producer({ idempotent: true });
  for (let i = 0; i < 10; i++) {
    await tx
      .transaction(async (t) => {
        for (const value of ['x', 'y', 'z']) t.send('orders', { value: `${value}${i}` });
        await tx.flush();
        await plain.send('orders', { value: 'plain' });
        if (i % 3 === 0) throw new Error('abort');
      })
      .catch(() => undefined);
  }
  await ottla.close();
}

const dump = async (files: readonly string[]): Promise<string[]> => {
  const { stdout } = await kafka('dump-log', '--files', files.join(','), '--print-data-log');
  return stdout.split('\n');
};

describe.skipIf(whyNotRun !== null)(`Kafka's dump-log, of transactions${notRun}`, () => {
  let parent: string;
  let directory: string;

  beforeAll(async () => {
    parent = mkdtempSync(join(tmpdir(), 'ottla-transactions-'));
    directory = join(parent, 'data');
    await writeTransactions(directory);
  });
  afterAll(() => rmSync(parent, { recursive: true, force: true }));

  it('reads control batches as the ends of transactions', async () => {
    const lines = await dump(filesOf(directory, 'orders-0', '.log'));
    expect(lines.filter((line) => line.includes('isvalid: false'))).toEqual([]);
    const ends = lines.flatMap(
      (line) => /endTxnMarker: (\w+) coordinatorEpoch: (\d+)/.exec(line) ?? [],
    );
    const expected = Array.from({ length: 10 }, (_, i) => (i % 3 === 0 ? 'ABORT' : 'COMMIT'));
    expect(ends.filter((part) => part === 'ABORT' || part === 'COMMIT')).toEqual(expected);
    const control = lines.filter((line) => line.includes('isControl: true'));
    expect(control).toHaveLength(10);
    expect(control.every((line) => line.includes('isTransactional: true'))).toBe(true);
    const transactional = lines.filter((line) => line.includes('isTransactional: true'));
    expect(transactional).toHaveLength(20);
    const numbered = lines.filter((line) => /^baseOffset.*producerId: \d{6,}/.test(line));
    expect(numbered).toHaveLength(30);
  });

  it('reads the transaction index', async () => {
    const lines = await dump(filesOf(directory, 'orders-0', '.txnindex'));
    const entries = lines.filter((line) => line.startsWith('version: 0 producerId: '));
    expect(entries).toHaveLength(4);
    const [first] = entries;
    expect(first).toMatch(/firstOffset: 0 lastOffset: 4 lastStableOffset: 5$/);
  });

  it('reads the snapshot of the producers', async () => {
    const snapshot = filesOf(directory, 'orders-0', '.snapshot').at(-1)!;
    const lines = await dump([snapshot]);
    const producers = lines.filter((line) => line.startsWith('producerId: '));
    expect(producers).toHaveLength(2);
    const sequences = producers.map((line) => /lastSequence: (\d+)/.exec(line)?.[1]);
    expect(new Set(sequences)).toEqual(new Set(['9', '29']));
  });
});
