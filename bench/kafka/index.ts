// Measures Ottla's server beside Apache Kafka: the same clients, the same machine, turn by turn.
//
//   npm run bench:kafka                                    about ten minutes
//   npm run bench:kafka -- --quick                         small and once: whether it runs, not how fast
//   npm run bench:kafka -- --only produce,start            rows whose name contains one of these texts
//   npm run bench:kafka -- --page docs/kafka-comparison.md renews that page's table, and its plot
//   npm run bench:kafka -- --rounds 5                      how often the two take turns in each row; 3

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { text, writePage, type Compared } from './page.js';
import { kafkaPeer, ottlaPeer, whyNotRun, type Peer } from './peers.js';
import { rows, type Row } from './rows.js';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    page: { type: 'string' },
    rounds: { type: 'string' },
    directory: { type: 'string', default: tmpdir() },
    port: { type: 'string', default: '29092' },
  },
});
const rounds = Number(values.rounds ?? (values.quick ? 1 : 3));
const wanted = values.only.split(',');
const scaled = (count: number): number => (values.quick ? Math.ceil(count / 50) : count);

const reason = await whyNotRun();
if (reason === null) await compareAll();
else console.log(`not run: ${reason}`);

async function compareAll(): Promise<void> {
  const parent = mkdtempSync(join(values.directory, 'ottla-kafka-'));
  const port = Number(values.port);
  const peers = [kafkaPeer(parent, port), ottlaPeer(parent, port + 10)];
  const compared: Compared[] = [];
  try {
    for (const peer of peers) await peer.start();
    const idle = peaks(peers);
    for (const row of rows) {
      if (!wanted.some((part) => row.name.includes(part))) continue;
      compared.push(await compare(row, peers));
      console.log(text(compared.at(-1)!));
    }
    compared.push(
      memory('peak memory, just started', 'before any record', idle),
      memory('peak memory', 'after all of the above', peaks(peers)),
    );
    for (const row of compared.slice(-2)) console.log(text(row));
  } finally {
    await Promise.allSettled(peers.map((peer) => peer.stop()));
    rmSync(parent, { recursive: true, force: true });
  }
  if (values.page !== undefined) writePage(values.page, compared, rounds);
}

async function compare(row: Row, peers: readonly Peer[]): Promise<Compared> {
  const measured = { kafka: [] as number[], ottla: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    // First the one, then the other.
    for (const peer of round % 2 === 0 ? peers : peers.toReversed()) {
      const topic = `row-${rows.indexOf(row)}-${round}`;
      measured[peer.name].push(await row.measure(peer, topic, scaled));
    }
  }
  const { name, unit, what } = row;
  return { name, unit, what, kafka: median(measured.kafka), ottla: median(measured.ottla) };
}

function peaks(peers: readonly Peer[]): Record<Peer['name'], number> {
  const [kafka, ottla] = peers.map((peer) => peer.peakMiB());
  return { kafka: kafka!, ottla: ottla! };
}

function memory(name: string, when: string, of: Record<Peer['name'], number>): Compared {
  return { name, unit: 'MiB', what: `the process’s largest resident set, ${when}`, ...of };
}

function median(values_: readonly number[]): number {
  const sorted = values_.toSorted((a, b) => a - b);
  return (sorted[sorted.length >> 1]! + sorted[(sorted.length - 1) >> 1]!) / 2;
}
