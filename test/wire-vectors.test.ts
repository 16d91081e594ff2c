import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { apis } from '../src/server/apis.js';
import type { Coder } from '../src/server/protocol/coder.js';
import { Reader } from '../src/server/protocol/reader.js';
import { Writer } from '../src/server/protocol/writer.js';

/** One message as Kafka's own class writes it: test/interop/kafka/src/WireVectors.java makes them. */
interface WireVector {
  readonly api: string;
  readonly kind: 'request' | 'response';
  readonly version: number;
  readonly hex: string;
  /** What is in it, with Kafka's names; bytes in base64. */
  readonly fields?: Readonly<Record<string, unknown>>;
}

const file = new URL('vectors/wire.json', import.meta.url);
const { vectors } = JSON.parse(readFileSync(file, 'utf8')) as { vectors: readonly WireVector[] };

/** Where our name of a field is not Kafka's. */
const ourNames: Readonly<Record<string, string>> = {
  memberAssignment: 'assignment',
  memberMetadata: 'metadata',
  resultsByTopicV3AndBelow: 'results',
  resultsByPartition: 'partitions',
  partitionErrorCode: 'errorCode',
  v3AndBelowProducerEpoch: 'producerEpoch',
  v3AndBelowProducerId: 'producerId',
  v3AndBelowTopics: 'topics',
  v3AndBelowTransactionalId: 'transactionalId',
};

/** With our names, and values as JSON has them. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (Buffer.isBuffer(value)) return value.toString('base64');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => [ourNames[name] ?? name, plain(field)]),
  );
}

it('has a test for each request that there are vectors of', () => {
  const offered = [...apis.values()].map(({ name }) => name);
  expect(new Set(vectors.map(({ api }) => api))).toEqual(new Set(offered));
});

for (const api of apis.values()) {
  describe(`${api.name} is read and written as Kafka does`, () => {
    const { minVersion, maxVersion } = api;
    const mine = vectors.filter(
      ({ api: name, version }) =>
        name === api.name && version >= minVersion && version <= maxVersion,
    );

    it('in every version that is offered', () => {
      expect(mine).toHaveLength(4 * (maxVersion - minVersion + 1));
    });

    it.each(
      mine.map((vector) => {
        const { kind, version, fields } = vector;
        return [`${kind} ${version}, ${fields === undefined ? 'empty' : 'full'}`, vector] as const;
      }),
    )('%s', (_, { kind, version, hex, fields }) => {
      const coder: Coder = api[kind](version);
      const reader = new Reader(Buffer.from(hex, 'hex'));
      const message = coder.read(reader);
      expect(reader.remaining).toBe(0);
      expect(plain(message)).toMatchObject(plain(fields ?? {}) as object);
      const writer = new Writer();
      coder.write(writer, message);
      expect(Buffer.concat(writer.finish()).toString('hex')).toBe(hex);
    });
  });
}
