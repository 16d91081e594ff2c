import { beforeAll, describe, expect, it } from 'vitest';
import { decodeAssignment, decodeSubscription } from '../../src/group-protocol.js';
import { apis } from '../../src/server/apis.js';
import { Reader } from '../../src/server/protocol/reader.js';
import { Writer } from '../../src/server/protocol/writer.js';
import { notRun, runJava, whyNotRun } from './kafka-tools.js';

/** A message as Kafka's own classes wrote it, and what it says. */
interface Written {
  readonly version: number;
  readonly bytes: Buffer;
  readonly says: unknown;
}

/** What we call otherwise: a version says what it is. */
const ownNames: Readonly<Record<string, string>> = {
  memberMetadata: 'metadata',
  memberAssignment: 'assignment',
  v3AndBelowTransactionalId: 'transactionalId',
  v3AndBelowProducerId: 'producerId',
  v3AndBelowProducerEpoch: 'producerEpoch',
  v3AndBelowTopics: 'topics',
  resultsByTopicV3AndBelow: 'results',
  resultsByPartition: 'partitions',
  partitionErrorCode: 'errorCode',
};

/** A value that was read, as Kafka's JSON has it. */
function asJson(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return value.toString('base64');
  if (typeof value === 'bigint') return Number(value);
  if (Array.isArray(value)) return value.map(asJson);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, asJson(each)]));
}

/** A tagged struct whose fields have their defaults is not in the bytes: it is read as null. */
function isLeftOut(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((each) => each === -1);
}

function renamed(json: unknown): unknown {
  if (Array.isArray(json)) return json.map(renamed);
  if (typeof json !== 'object' || json === null) return json;
  return Object.fromEntries(
    Object.entries(json).map(([name, value]) => [
      ownNames[name] ?? name,
      isLeftOut(value) ? null : renamed(value),
    ]),
  );
}

describe.skipIf(whyNotRun !== null)(`Messages as Kafka's own classes write them${notRun}`, () => {
  const written = new Map<string, Written[]>();

  beforeAll(async () => {
    const wanted = [...apis.values()].flatMap(({ name, minVersion, maxVersion }) =>
      ['Request', 'Response'].map((kind) => `${name}${kind}:${minVersion}:${maxVersion}`),
    );
    const protocol = ['ConsumerProtocolSubscription:0:3', 'ConsumerProtocolAssignment:0:3'];
    const lines = (await runJava('WireMessages', ...wanted, ...protocol)).trimEnd().split('\n');
    for (const line of lines) {
      const [name = '', version, hex = '', json = ''] = line.split('\t');
      const message = {
        version: Number(version),
        bytes: Buffer.from(hex, 'hex'),
        says: JSON.parse(json) as unknown,
      };
      const known = written.get(name);
      if (known === undefined) written.set(name, [message]);
      else known.push(message);
    }
  });

  for (const api of apis.values()) {
    for (const kind of ['request', 'response'] as const) {
      const name = `${api.name}${kind === 'request' ? 'Request' : 'Response'}`;
      it(`${name} is read, and written again, in versions ${api.minVersion} to ${api.maxVersion}`, () => {
        const messages = written.get(name)!;
        expect(messages).toHaveLength(2 * (api.maxVersion - api.minVersion + 1));
        for (const { version, bytes, says } of messages) {
          const coder = api[kind](version);
          const reader = new Reader(bytes);
          const value = coder.read(reader);
          expect(asJson(value), `version ${version}`).toMatchObject(renamed(says) as object);
          expect(reader.remaining).toBe(0);
          const writer = new Writer();
          coder.write(writer, value);
          expect(Buffer.concat(writer.finish()).toString('hex')).toBe(bytes.toString('hex'));
        }
      });
    }
  }

  it('ConsumerProtocolSubscription is read in all of its versions', () => {
    for (const { version, bytes, says } of written.get('ConsumerProtocolSubscription')!) {
      const {
        topics,
        userData,
        ownedPartitions = [],
        generationId = -1,
      } = says as {
        topics: string[];
        userData: string | null;
        ownedPartitions?: { topic: string; partitions: number[] }[];
        generationId?: number;
      };
      expect(decodeSubscription(withVersion(version, bytes)), `version ${version}`).toEqual({
        topics,
        userData: userData === null ? null : Buffer.from(userData, 'base64'),
        owned: ownedPartitions.flatMap(({ topic, partitions }) =>
          partitions.map((partition) => ({ topic, partition })),
        ),
        generation: generationId,
      });
    }
  });

  it('ConsumerProtocolAssignment is read in all of its versions', () => {
    for (const { version, bytes, says } of written.get('ConsumerProtocolAssignment')!) {
      const { assignedPartitions } = says as {
        assignedPartitions: { topic: string; partitions: number[] }[];
      };
      expect(decodeAssignment(withVersion(version, bytes)), `version ${version}`).toEqual(
        assignedPartitions.flatMap(({ topic, partitions }) =>
          partitions.map((partition) => ({ topic, partition })),
        ),
      );
    }
  });
});

/** The bytes of the protocol begin with their version. */
function withVersion(version: number, bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from([0, version]), bytes]);
}
