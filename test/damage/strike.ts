import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../power/random.js';

/** What was done to which file. */
export interface Strike {
  /** Below the data directory. */
  readonly file: string;
  readonly kind: string;
  readonly what: string;
}

const partitionKinds = [
  '.log',
  '.index',
  '.timeindex',
  '.txnindex',
  '.snapshot',
  'partition.metadata',
  'leader-epoch-checkpoint',
];
const singleFiles = ['meta.properties', 'meta/data.mdb', 'meta/lock.mdb', 'lock'];

/** Files by what they are; a log's active segment is a kind of its own. */
function filesByKind(directory: string): Map<string, string[]> {
  const kinds = new Map<string, string[]>();
  const add = (kind: string, file: string): void => {
    kinds.set(kind, [...(kinds.get(kind) ?? []), file]);
  };
  for (const file of singleFiles) if (existsSync(join(directory, file))) add(file, file);
  for (const partition of readdirSync(directory).filter((name) => /-\d+$/.test(name))) {
    const names = readdirSync(join(directory, partition)).toSorted();
    const active = names.findLast((name) => name.endsWith('.log'));
    for (const name of names) {
      const kind = partitionKinds.find((suffix) => name.endsWith(suffix));
      if (kind === undefined) continue;
      add(name === active ? 'active .log' : kind, join(partition, name));
    }
  }
  return kinds;
}

type Damage = (bytes: Buffer, random: Random, other: () => Buffer) => Buffer | undefined;

/** A range of a file, short ones more often. */
function range(bytes: Buffer, random: Random): [start: number, end: number] {
  const start = random.below(bytes.length);
  const longest = random.oneOf([1, 4, 16, 64, 512, 4096]);
  return [start, Math.min(bytes.length, start + 1 + random.below(longest))];
}

const damages: Readonly<Record<string, Damage>> = {
  'a bit flipped': (bytes, random) => {
    bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
    return bytes;
  },
  'a byte changed': (bytes, random) => {
    bytes[random.below(bytes.length)]! += 1 + random.below(255);
    return bytes;
  },
  'zeros over a range': (bytes, random) => bytes.fill(0, ...range(bytes, random)),
  'noise over a range': (bytes, random) => {
    const [start, end] = range(bytes, random);
    for (let at = start; at < end; at++) bytes[at] = random.below(256);
    return bytes;
  },
  'a range copied over another': (bytes, random) => {
    const [start, end] = range(bytes, random);
    bytes.copy(bytes, random.below(bytes.length), start, end);
    return bytes;
  },
  truncated: (bytes, random) => bytes.subarray(0, random.below(bytes.length)),
  'extended by zeros': (bytes, random) =>
    Buffer.concat([bytes, Buffer.alloc(1 + random.below(5000))]),
  'extended by noise': (bytes, random) =>
    Buffer.concat([bytes, Buffer.from(Array.from({ length: 100 }, () => random.below(256)))]),
  'extended by its own beginning': (bytes, random) =>
    Buffer.concat([bytes, bytes.subarray(0, 1 + random.below(bytes.length))]),
  emptied: () => Buffer.alloc(0),
  removed: () => undefined,
  'another file of its kind in its place': (_bytes, _random, other) => other(),
};

/** Damages one file of a directory, as the random numbers say. */
export function strike(directory: string, random: Random): Strike {
  const kinds = filesByKind(directory);
  const kind = random.oneOf([...kinds.keys()]);
  const files = kinds.get(kind)!;
  const file = random.oneOf(files);
  const what = random.oneOf(Object.keys(damages));
  const path = join(directory, file);
  const bytes = readFileSync(path);
  const other = (): Buffer => readFileSync(join(directory, random.oneOf(files)));
  // Of an empty file there is little to damage.
  const damage = bytes.length === 0 ? damages['extended by noise']! : damages[what]!;
  const damaged = damage(Buffer.from(bytes), random, other);
  if (damaged === undefined) rmSync(path);
  else writeFileSync(path, damaged);
  return { file, kind, what };
}
