// Prints the bytes of a log with one record, as docs/format.md explains them.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ottla } from 'ottla';

const directory = mkdtempSync(join(tmpdir(), 'ottla-bytes-'));
try {
  const ottla = await Ottla.open(directory);
  await ottla.topics.create('orders');
  await ottla.producer().send('orders', {
    key: 'k',
    value: 'tea',
    headers: { h: '1' },
    timestamp: 1_000_000,
  });
  await ottla.close();

  const log = readFileSync(join(directory, 'orders-0', '00000000000000000000.log'));
  for (let at = 0; at < log.length; at += 16) {
    const row = log.subarray(at, at + 16);
    const hex = row.toString('hex').replaceAll(/(..)(?=.)/g, '$1 ');
    console.log(`${at.toString().padStart(4)}  ${hex}`);
  }
} finally {
  rmSync(directory, { recursive: true });
}
