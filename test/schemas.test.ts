import { type } from 'arktype';
import * as v from 'valibot';
import { beforeEach, describe, expect, expectTypeOf, it } from 'vitest';
import { z } from 'zod';
import { defineTopic, type Ottla } from '../src/index.js';
import { testOttla } from '../src/testing/index.js';
import { collect, failureOf } from './contract.js';

/*
 * One schema in three libraries: an id, a total, and a time that is stored as text and read as a Date. What
 * is said of types here is checked by tsc.
 */

const withZod = defineTopic('zod', {
  key: { codec: 'string', schema: z.enum(['eu', 'us']) },
  value: z.object({
    id: z.string(),
    total: z.number().min(0),
    at: z.string().transform((text) => new Date(text)),
  }),
});

const withValibot = defineTopic('valibot', {
  key: { codec: 'string', schema: v.picklist(['eu', 'us']) },
  value: v.object({
    id: v.string(),
    total: v.pipe(v.number(), v.minValue(0)),
    at: v.pipe(
      v.string(),
      v.transform((text) => new Date(text)),
    ),
  }),
});

const withArktype = defineTopic('arktype', {
  key: { codec: 'string', schema: type("'eu' | 'us'") },
  value: type({
    id: 'string',
    total: 'number >= 0',
    at: type('string').pipe((text) => new Date(text)),
  }),
});

const sent = { id: 'o1', total: 9, at: '2026-01-02T03:04:05.000Z' };
const read = { id: 'o1', total: 9, at: new Date('2026-01-02T03:04:05.000Z') };

let ottla: Ottla;
beforeEach(async (test) => {
  ({ ottla } = testOttla(test));
  for (const topic of [withZod, withValibot, withArktype]) await ottla.topics.create(topic);
});

describe('a schema', () => {
  it('of zod checks what is sent, and makes what is read', async () => {
    await ottla.producer().send(withZod, { key: 'eu', value: sent });
    const [record] = await collect(ottla.read(withZod));
    expectTypeOf(record!.value).toEqualTypeOf<{ id: string; total: number; at: Date }>();
    expectTypeOf(record!.key).toEqualTypeOf<'eu' | 'us' | null>();
    expect([record!.key, record!.value]).toEqual(['eu', read]);
  });

  it('of valibot does', async () => {
    await ottla.producer().send(withValibot, { key: 'eu', value: sent });
    const [record] = await collect(ottla.read(withValibot));
    expectTypeOf(record!.value).toEqualTypeOf<{ id: string; total: number; at: Date }>();
    expectTypeOf(record!.key).toEqualTypeOf<'eu' | 'us' | null>();
    expect([record!.key, record!.value]).toEqual(['eu', read]);
  });

  it('of arktype does', async () => {
    await ottla.producer().send(withArktype, { key: 'eu', value: sent });
    const [record] = await collect(ottla.read(withArktype));
    expectTypeOf(record!.value).toEqualTypeOf<{ id: string; total: number; at: Date }>();
    expectTypeOf(record!.key).toEqualTypeOf<'eu' | 'us' | null>();
    expect([record!.key, record!.value]).toEqual(['eu', read]);
  });

  it.each(['zod', 'valibot', 'arktype'])('of %s refuses what it does not take', async (name) => {
    const topic = [withZod, withValibot, withArktype].find((one) => one.name === name)!;
    const producer = ottla.producer();
    const wrong = [
      { key: 'eu', value: { ...sent, total: -1 } },
      { key: 'eu', value: { ...sent, id: 7 } },
      { key: 'xx', value: sent },
    ];
    for (const record of wrong) {
      const failure = await failureOf(() => producer.send(topic, record as never));
      expect(failure).toBeInstanceOf(TypeError);
      expect(failure.message).toContain(name);
    }
    expect((await ottla.topics.describe(name)).partitions[0]!.highWatermark).toBe(0);
  });
});
