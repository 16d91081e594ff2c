import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  decodeAssignment,
  decodeStickyData,
  decodeSubscription,
  encodeAssignment,
  encodeSubscription,
  previousAssignment,
  type Subscription,
} from '../src/group-protocol.js';

const at = (topic: string, partition: number) => ({ topic, partition });

/** Version 3 of ConsumerProtocolSubscription, field by field. */
const subscriptionBytes = Buffer.from(
  [
    '0003', // version
    ['00000002', '0001 74', '0001 75'], // topics: t, u
    '00000002 abcd', // user data
    ['00000001', '0001 74', '00000002 00000000 00000003'], // owned: t-0, t-3
    '00000007', // generation
    'ffff', // no rack
  ]
    .flat()
    .join('')
    .replaceAll(' ', ''),
  'hex',
);

const subscription: Subscription = {
  topics: ['t', 'u'],
  userData: Buffer.from('abcd', 'hex'),
  owned: [at('t', 0), at('t', 3)],
  generation: 7,
};

/** The same bytes as an older version, which ends sooner. */
function inVersion(version: number, length: number): Buffer {
  const bytes = Buffer.from(subscriptionBytes.subarray(0, length));
  bytes.writeInt16BE(version);
  return bytes;
}

it('writes and reads what a member subscribes to', () => {
  expect(encodeSubscription(subscription)).toEqual(subscriptionBytes);
  expect(decodeSubscription(subscriptionBytes)).toEqual(subscription);
});

it('reads older versions, and what a later one begins with', () => {
  const end = subscriptionBytes.length;
  expect(decodeSubscription(inVersion(2, end - 2))).toEqual(subscription);
  expect(decodeSubscription(inVersion(1, end - 6))).toEqual({ ...subscription, generation: -1 });
  const oldest = { ...subscription, owned: [], generation: -1 };
  expect(decodeSubscription(inVersion(0, 18))).toEqual(oldest);
  const later = Buffer.concat([inVersion(4, end), Buffer.from('more')]);
  expect(decodeSubscription(later)).toEqual(subscription);
});

it('writes and reads an assignment', () => {
  const assigned = [at('t', 1), at('t', 2), at('u', 0)];
  const bytes = encodeAssignment(assigned);
  expect(bytes.toString('hex')).toBe(
    ['0000', '00000002', '000174', '00000002', '00000001', '00000002']
      .concat(['000175', '00000001', '00000000', 'ffffffff'])
      .join(''),
  );
  expect(decodeAssignment(bytes)).toEqual(assigned);
  expect(decodeAssignment(Buffer.alloc(0))).toEqual([]);
});

it('takes anything else for no subscription, no assignment', () => {
  for (let length = 2; length < 18; length++) {
    expect(decodeSubscription(inVersion(3, length))).toBeUndefined();
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (random) => {
      const bytes = Buffer.from(random);
      const found = decodeSubscription(bytes);
      expect(found === undefined || Array.isArray(found.topics)).toBe(true);
      const assigned = decodeAssignment(bytes);
      expect(assigned === undefined || Array.isArray(assigned)).toBe(true);
    }),
  );
});

it('finds what sticky members had in their user data, with a generation and without', () => {
  const owned = '00000001 0001 74 00000001 00000005'.replaceAll(' ', '');
  const userData = Buffer.from(`${owned}00000009`, 'hex');
  expect(decodeStickyData(userData)).toEqual({ owned: [at('t', 5)], generation: 9 });
  const old = Buffer.from(owned, 'hex');
  expect(decodeStickyData(old)).toEqual({ owned: [at('t', 5)], generation: -1 });
  const asked = { topics: ['t'], userData, owned: [], generation: -1 };
  expect(previousAssignment('sticky', asked)).toEqual({ owned: [at('t', 5)], generation: 9 });
  expect(previousAssignment('range', asked)).toEqual({ owned: [], generation: -1 });
});

it('finds the generation of cooperative members of old versions in their user data', () => {
  const userData = Buffer.from('0000000b', 'hex');
  const asked = { topics: ['t'], userData, owned: [at('t', 1)], generation: -1 };
  const expected = { owned: [at('t', 1)], generation: 11 };
  expect(previousAssignment('cooperative-sticky', asked)).toEqual(expected);
  expect(previousAssignment('cooperative-sticky', { ...asked, generation: 3 }).generation).toBe(3);
});
