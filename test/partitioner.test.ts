import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  murmur2,
  offsetsPartitionFor,
  partitionForKey,
  RoundRobinPartitioner,
  StickyPartitioner,
} from '../src/partitioner.js';
import { withoutTest } from './named-tests.js';

interface Murmur2Vector {
  readonly id: string;
  readonly group: string;
  readonly text?: string;
  readonly hex: string;
  readonly murmur2: number;
  readonly positive: number;
  readonly partition: Readonly<Record<string, number>>;
}

interface Rules {
  readonly rules: readonly { readonly id: string }[];
  readonly sticky: readonly { readonly id: string; readonly stickyBatchSize?: number }[];
  readonly adaptive: readonly {
    readonly id: string;
    readonly queueSizes: readonly number[];
    readonly expectedFrequencies?: readonly number[];
  }[];
}

const read = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`vectors/${name}.json`, import.meta.url), 'utf8'));
const { vectors } = read('murmur2') as { readonly vectors: readonly Murmur2Vector[] };
const rules = read('partitioner-rules') as Rules;

/** 0, 1, 2, … as in Kafka's own tests. */
function sequence(): () => number {
  let next = 0;
  return () => next++;
}

/** Where appends of `bytes` go one after the other. */
function append(sticky: StickyPartitioner, times: number, bytes = 1, batchDone = true): number[] {
  return Array.from({ length: times }, () => {
    const partition = sticky.current();
    sticky.appended(bytes, batchDone);
    return partition;
  });
}

function frequencies(partitions: readonly number[], partitionCount: number): number[] {
  const counts = Array.from({ length: partitionCount }, () => 0);
  for (const partition of partitions) counts[partition]!++;
  return counts;
}

describe('murmur2', () => {
  it.each(vectors)('$id: $group, $hex', (vector) => {
    const bytes = Buffer.from(vector.hex, 'hex');
    expect(murmur2(bytes)).toBe(vector.murmur2);
    expect(murmur2(new Uint8Array(bytes))).toBe(vector.murmur2);
    expect(murmur2(bytes) & 0x7fffffff).toBe(vector.positive);
    expect(murmur2(vector.text ?? bytes)).toBe(vector.murmur2);
    for (const [count, partition] of Object.entries(vector.partition)) {
      expect(partitionForKey(bytes, Number(count))).toBe(partition);
    }
  });

  it('hashes a string as its UTF-8 bytes, lone surrogates as Buffer encodes them', () => {
    const anyUnits = fc
      .array(fc.oneof(fc.nat(0x7f), fc.nat(0xffff)))
      .map((units) => String.fromCharCode(...units));
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.string({ unit: 'binary' }), anyUnits), (text) => {
        expect(murmur2(text)).toBe(murmur2(Buffer.from(text, 'utf8')));
      }),
    );
  });

  it.each([1364, 1365, 1366, 2048, 4096, 100_000])('hashes %i kana, 3 bytes each', (length) => {
    const text = 'あ'.repeat(length);
    expect(murmur2(text)).toBe(murmur2(Buffer.from(text, 'utf8')));
  });

  it('reads only the view, not what lies around it', () => {
    const around = Buffer.from('<foobar>');
    expect(murmur2(around.subarray(1, 7))).toBe(murmur2('foobar'));
  });

  it('refuses what is neither bytes nor a string', () => {
    for (const wrong of [
      undefined,
      null,
      7,
      [1, 2],
      new Int8Array(2),
      new DataView(new ArrayBuffer(2)),
    ]) {
      expect(() => murmur2(wrong as unknown as string)).toThrow(TypeError);
    }
  });
});

describe('partition rules', () => {
  it('p04: without a key the sticky rule decides, so that two records may part', () => {
    const sticky = new StickyPartitioner(1, 3, sequence());
    const [first, second] = append(sticky, 2);
    expect(first).not.toBe(second);
  });

  it('p05: an empty key is hashed', () => {
    expect(murmur2(new Uint8Array(0))).toBe(0x106e08d9);
    expect(murmur2('')).toBe(275646681);
    expect(partitionForKey('', 1000)).toBe(681);
  });

  it('p07: another partition count may move a key: plain modulo', () => {
    const keys = Array.from({ length: 100 }, (_, i) => `key-${i}`);
    const moved = keys.filter((key) => partitionForKey(key, 7) !== partitionForKey(key, 8));
    expect(moved.length).toBeGreaterThan(50);
    for (const key of keys) expect(partitionForKey(key, 8)).toBe((murmur2(key) & 0x7fffffff) % 8);
  });

  it('p08: a key keeps its partition while that is not available', () => {
    const before = partitionForKey('stable', 3);
    const sticky = new StickyPartitioner(1, 3, sequence());
    sticky.update(
      3,
      [0, 1, 2].filter((partition) => partition !== before),
    );
    append(sticky, 10);
    expect(partitionForKey('stable', 3)).toBe(before);
  });

  it('has a test for each rule, here or in partition-choice.contract.test.ts', () => {
    const ids = [...rules.rules, ...rules.sticky].map(({ id }) => id);
    expect(ids).toHaveLength(14);
    expect(withoutTest(ids)).toEqual([]);
  });
});

describe('StickyPartitioner', () => {
  it('s01: three appends go to one partition, the fourth to another', () => {
    const sticky = new StickyPartitioner(3, 3, sequence());
    const [a, b, c, d] = append(sticky, 4);
    expect([b, c]).toEqual([a, a]);
    expect(d).not.toBe(a);
  });

  it('s02: with one partition always that', () => {
    expect(append(new StickyPartitioner(1, 1, sequence()), 10)).toEqual(
      Array.from({ length: 10 }, () => 0),
    );
  });

  it('s03: never a partition that is not available', () => {
    const sticky = new StickyPartitioner(1, 3, sequence());
    sticky.update(3, [0, 2]);
    expect(new Set(append(sticky, 100))).toEqual(new Set([0, 2]));
  });

  it('s04: where none is available, one of all', () => {
    const sticky = new StickyPartitioner(1, 1, sequence());
    sticky.update(1, []);
    expect(append(sticky, 3)).toEqual([0, 0, 0]);
    const three = new StickyPartitioner(1, 3, sequence());
    three.update(3, [], []);
    expect(frequencies(append(three, 30), 3)).toEqual([10, 10, 10]);
  });

  it('s05: a batch size below 1 is refused', () => {
    const size = rules.sticky.find(({ id }) => id === 's05')!.stickyBatchSize!;
    expect(() => new StickyPartitioner(size, 3, sequence())).toThrow(RangeError);
    expect(() => new StickyPartitioner(1.5, 3, sequence())).toThrow(RangeError);
  });

  it('s06: goes on once the batch is done, and at twice the size in any case', () => {
    const sticky = new StickyPartitioner(100, 3, sequence());
    expect(append(sticky, 1, 99, true)).toEqual([0]);
    expect(append(sticky, 1, 1, false)).toEqual([0]);
    expect(append(sticky, 1, 99, false)).toEqual([0]);
    expect(append(sticky, 1, 1, false)).toEqual([0]);
    expect(append(sticky, 1, 100, true)).toEqual([1]);
    expect(append(sticky, 1, 200, false)).toEqual([2]);
    expect(sticky.current()).toBe(0);
  });

  it('stays where it is until something was appended', () => {
    const sticky = new StickyPartitioner(1, 3, sequence());
    expect([sticky.current(), sticky.current(), sticky.current()]).toEqual([0, 0, 0]);
  });

  it.each(rules.adaptive)('$id: queues of $queueSizes', ({ queueSizes, expectedFrequencies }) => {
    const count = queueSizes.length;
    const weights = expectedFrequencies ?? queueSizes.map(() => 1);
    const sum = weights.reduce((a, b) => a + b);
    const sticky = new StickyPartitioner(1, count, sequence());
    sticky.update(count, undefined, queueSizes);
    expect(frequencies(append(sticky, 100 * sum), count)).toEqual(weights.map((w) => 100 * w));
  });

  it('weighs the queues of the available partitions only', () => {
    const sticky = new StickyPartitioner(1, 4, sequence());
    sticky.update(4, [3, 1], [2, 0]);
    expect(frequencies(append(sticky, 400), 4)).toEqual([0, 300, 0, 100]);
    sticky.update(4);
    expect(frequencies(append(sticky, 400), 4).every((n) => Math.abs(n - 100) <= 1)).toBe(true);
  });

  it('leaves the current partition once it is not available', () => {
    const sticky = new StickyPartitioner(100, 3, sequence());
    expect(append(sticky, 1, 99, false)).toEqual([0]);
    sticky.update(3, [1, 2]);
    const [next] = append(sticky, 1, 99, true);
    expect(next).not.toBe(0);
    expect(sticky.current()).toBe(next);
  });

  it('draws from added partitions too', () => {
    const sticky = new StickyPartitioner(1, 1, sequence());
    sticky.update(2);
    expect(new Set(append(sticky, 10))).toEqual(new Set([0, 1]));
  });

  it('takes any 32-bit integer for a random one, and never leaves the range', () => {
    const draws = fc.array(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), { minLength: 1 });
    const queues = fc.array(fc.nat(1000), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(draws, queues, (numbers, queueSizes) => {
        let at = 0;
        const random = (): number => numbers[at++ % numbers.length]!;
        const sticky = new StickyPartitioner(1, queueSizes.length, random);
        sticky.update(queueSizes.length, undefined, queueSizes);
        for (const partition of append(sticky, 50)) {
          expect(Number.isInteger(partition)).toBe(true);
          expect(partition).toBeGreaterThanOrEqual(0);
          expect(partition).toBeLessThan(queueSizes.length);
        }
      }),
    );
  });

  it('refuses a partition count below 1 and lists of different lengths', () => {
    expect(() => new StickyPartitioner(1, 0, sequence())).toThrow(RangeError);
    const sticky = new StickyPartitioner(1, 3, sequence());
    expect(() => sticky.update(0)).toThrow(RangeError);
    expect(() => sticky.update(3, undefined, [1, 2])).toThrow(RangeError);
    expect(() => sticky.update(3, [0, 1], [1, 2, 3])).toThrow(RangeError);
  });
});

describe('RoundRobinPartitioner', () => {
  it('takes turns per topic, from a random partition on', () => {
    const starts = [4, 2];
    const roundRobin = new RoundRobinPartitioner(() => starts.shift()!);
    const partitions = [0, 1, 2, 3].map(() => [
      roundRobin.partition('a', 3),
      roundRobin.partition('b', 5),
    ]);
    expect(partitions).toEqual([
      [1, 2],
      [2, 3],
      [0, 4],
      [1, 0],
    ]);
  });

  it('goes on over the end of the integers and after partitions were added', () => {
    const roundRobin = new RoundRobinPartitioner(() => 0x7fffffff);
    const before = [roundRobin.partition('a', 2), roundRobin.partition('a', 2)];
    expect(before).toEqual([1, 0]);
    const after = Array.from({ length: 4 }, () => roundRobin.partition('a', 4));
    expect(new Set(after)).toEqual(new Set([0, 1, 2, 3]));
  });

  it('takes a topic called __proto__', () => {
    const roundRobin = new RoundRobinPartitioner(() => 0);
    const turns = ['__proto__', '__proto__', 'constructor'];
    expect(turns.map((topic) => roundRobin.partition(topic, 3))).toEqual([0, 1, 0]);
  });
});

describe('offsetsPartitionFor', () => {
  // Computed by Java: String.hashCode, Kafka's Utils.abs, modulo 50.
  it.each([
    ['', 0],
    ['a', 47],
    ['mail', 49],
    ['bill', 29],
    ['my-group', 12],
    ['console-consumer-12345', 6],
    ['größe', 7],
    ['グループ', 20],
    ['😀', 49],
    ['orders.v1', 46],
  ])('%j is kept in partition %i', (group, partition) => {
    expect(offsetsPartitionFor(group)).toBe(partition);
  });

  it('takes 0 for the one hash that has no absolute value', () => {
    expect(offsetsPartitionFor('polygenelubricants')).toBe(0);
  });
});
