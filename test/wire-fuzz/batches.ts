import { crc32c } from '../../src/crc32c.js';
import { encodeBatch, type PlacedBatch } from '../../src/record-writer.js';
import type { Random } from '../power/random.js';
import { someCompression } from './bombs.js';
import type { Known } from './known.js';

/** Where a batch keeps its CRC, what that covers, and the number of its records. */
const crcAt = 17;
const attributesAt = 21;
const recordCountAt = 57;

/** Record batches as clients send them, good and bad. */
export function someRecords(random: Random, known: Known): Buffer | null {
  if (random.chance(0.02)) return known.bombs.one(random);
  const kind = random.below(20);
  if (kind === 0) return null;
  if (kind === 1) return Buffer.alloc(random.below(80));
  const batch = someBatch(random, known);
  if (kind < 14) return batch;
  if (kind === 14) return Buffer.concat([batch, someBatch(random, known)]);
  if (kind === 15) return batch.subarray(0, random.below(batch.length));
  if (kind === 16) batch[16] = random.below(3);
  else if (kind === 17) batch.writeInt32BE(random.oneOf([0, -1, 2 ** 31 - 1, 9]), recordCountAt);
  else if (kind === 18) batch.writeInt16BE(1 << random.below(15), attributesAt);
  else batch[random.below(batch.length)]! ^= 1 << random.below(8);
  if (random.chance(0.7)) batch.writeUInt32BE(crc32c(batch, attributesAt, batch.length), crcAt);
  return batch;
}

function someBatch(random: Random, known: Known): Buffer {
  const records = Array.from({ length: 1 + random.below(4) }, (_, offset) => ({
    offset,
    timestamp: random.chance(0.9) ? 1_700_000_000_000 + random.below(1000) : -1,
    key: random.chance(0.5) ? `k${random.below(5)}` : null,
    value: random.chance(0.9) ? 'v'.repeat(random.below(random.chance(0.05) ? 5000 : 30)) : null,
    headers: random.chance(0.2) ? ([['h', 'x']] as const) : [],
  }));
  return encodeBatch({
    baseOffset: 0,
    leaderEpoch: -1,
    records,
    compression: random.chance(0.7) ? 'none' : someCompression(random),
    ...someOrigin(random, known),
  });
}

function someOrigin(random: Random, known: Known): Partial<PlacedBatch> {
  if (random.chance(0.5)) return {};
  const isKnown = known.producers.length > 0 && random.chance(0.9);
  const { producerId, producerEpoch } = isKnown
    ? random.oneOf(known.producers)
    : { producerId: BigInt(random.below(50)), producerEpoch: random.below(3) };
  const baseSequence = random.chance(0.6) ? 0 : random.below(8);
  return { producerId, producerEpoch, baseSequence, isTransactional: random.chance(0.6) };
}
