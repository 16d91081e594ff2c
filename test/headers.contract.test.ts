import { type } from 'arktype';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineTopic, type TopicRef } from '../src/index.js';
import { testOttla } from '../src/testing/index.js';
import { collect, describeContract, describeDirectory, failureOf } from './contract.js';

const traced = defineTopic('traced', {
  value: 'string',
  headers: z.object({
    trace: z.string(),
    at: z
      .string()
      .transform((text) => new Date(text))
      .optional(),
    tries: z.coerce.number<string>().default(1),
  }),
});

describeContract('headers of a definition', ({ open }) => {
  it('are an object by a codec of their values, each of which stands alone', async () => {
    const ottla = await open();
    const counted = defineTopic('counted', { headers: 'json' });
    await ottla.topics.create(counted);
    const headers = { tries: 3, none: null, tags: ['a'] };
    await ottla.producer().send(counted, { value: 'v', headers });
    const [record] = await collect(ottla.read(counted));
    expect(record!.headers).toEqual(headers);
    const [raw] = await collect(ottla.read('counted'));
    expect(raw!.headers.map(([name, value]) => [name, value && String(value)])).toEqual([
      ['tries', '3'],
      ['none', null],
      ['tags', '["a"]'],
    ]);
  });

  it.each(['string', 'bytes', 'msgpack'] as const)('may have codec %s', async (codec) => {
    const ottla = await open();
    const topic = defineTopic('t', { headers: codec });
    await ottla.topics.create(topic);
    const a = codec === 'bytes' ? Buffer.from([0, 255]) : 'text';
    await ottla.producer().sendBatch(topic, [{ value: '', headers: { a } }, { value: '' }]);
    const read = await collect(ottla.read(topic));
    expect(read.map(({ headers }) => headers)).toEqual([{ a }, {}]);
  });

  it('with a schema are stored as they were sent, and parsed when they are read', async () => {
    const ottla = await open();
    await ottla.topics.create(traced);
    const at = '2026-01-02T03:04:05.000Z';
    const producer = ottla.producer();
    await producer.send(traced, { value: 'a', headers: { trace: 'x', at } });
    await producer.sendBatch(traced, [{ value: 'b', headers: { trace: 'y', tries: '7' } }]);
    const consumer = ottla.consumer({ group: 'g', topics: [traced] });
    const seen: unknown[] = [];
    void consumer.run({ eachRecord: ({ headers }) => seen.push(headers) });
    await ottla.idle();
    expect(seen).toEqual([
      { trace: 'x', at: new Date(at), tries: 1 },
      { trace: 'y', tries: 7 },
    ]);
    const [raw] = await collect(ottla.read('traced'));
    expect(raw!.headers.map(([name, value]) => [name, String(value)])).toEqual([
      ['trace', 'x'],
      ['at', at],
    ]);
    await consumer.close();
  });

  it.each<[library: string, topic: TopicRef]>([
    ['zod', defineTopic('t', { headers: z.object({ trace: z.string().min(2) }) })],
    [
      'valibot',
      defineTopic('t', { headers: v.object({ trace: v.pipe(v.string(), v.minLength(2)) }) }),
    ],
    ['arktype', defineTopic('t', { headers: type({ trace: 'string >= 2' }) })],
  ])('are refused by a schema of %s where they do not fit', async (_library, topic) => {
    const ottla = await open();
    await ottla.topics.create(topic);
    const producer = ottla.producer();
    await producer.send(topic, { value: 'v', headers: { trace: 'ab' } });
    for (const headers of [{ trace: 'a' }, {}, undefined, null, [['trace', 'ab']], new Map(), 7]) {
      const record = { value: 'v', headers } as never;
      const failure = await failureOf(() => producer.send(topic, record));
      expect(failure).toBeInstanceOf(TypeError);
      expect(failure.message).toMatch(/^t: headers: /);
      await expect(producer.sendBatch(topic, [record])).rejects.toThrow(TypeError);
    }
    expect(await collect(ottla.read('t'))).toHaveLength(1);
  });

  it('count once where a name comes more than once, and keep any name', async () => {
    const ottla = await open();
    const topic = defineTopic('t', { headers: 'string' });
    await ottla.topics.create(topic);
    const headers = [['a', '1'] as const, ['__proto__', 'p'] as const, ['a', '2'] as const];
    await ottla.producer().send('t', { value: '', headers });
    const [record] = await collect(ottla.read(topic));
    expect(Object.entries(record!.headers)).toEqual([
      ['a', '2'],
      ['__proto__', 'p'],
    ]);
  });

  it('leave out what is undefined', async () => {
    const ottla = await open();
    await ottla.topics.create(traced);
    const headers = { trace: 'x', at: undefined };
    await ottla.producer().send(traced, { value: '', headers });
    const [raw] = await collect(ottla.read('traced'));
    expect(raw!.headers.map(([name]) => name)).toEqual(['trace']);
  });

  it('that cannot be decoded make a record that cannot be', async () => {
    const ottla = await open();
    await ottla.topics.create(traced);
    await ottla.producer().send('traced', { value: 'v', headers: { tries: '2' } });
    await ottla.producer().send(traced, { value: 'w', headers: { trace: 'x' } });
    await expect(collect(ottla.read(traced))).rejects.toMatchObject({
      code: 'INVALID_RECORD',
      message: expect.stringMatching(/^traced-0: the headers at offset 0 cannot be decoded: /),
      at: { topic: 'traced', partition: 0, offset: 0 },
    });
    const rest = await collect(ottla.read(traced, { onInvalid: 'skip' }));
    expect(rest.map(({ value }) => value)).toEqual(['w']);
  });

  it('go with a transaction', async () => {
    const ottla = await open();
    await ottla.topics.create(traced);
    const producer = ottla.producer({ transactionalId: 'tx' });
    await producer.transaction((t) => t.send(traced, { value: 'v', headers: { trace: 'x' } }));
    const wrong = producer.transaction((t) =>
      t.send(traced, { value: 'v', headers: { trace: 1 } } as never),
    );
    await expect(wrong).rejects.toThrow(TypeError);
    const read = await collect(ottla.read(traced));
    expect(read.map(({ headers }) => headers.trace)).toEqual(['x']);
  });

  it('are refused a codec that is none, or none for them', () => {
    for (const headers of ['msgpack-shared', 'xml', 7, {}, null]) {
      expect(() => defineTopic('t', { headers: headers as never })).toThrow(
        /^defineTopic t: headers: expected/,
      );
    }
  });
});

describe('headers that a handler gets', () => {
  it('are the same by way of a retry topic; dead letters keep their bytes', async (test) => {
    const { ottla, clock } = testOttla(test);
    await ottla.topics.create(traced);
    for (const name of ['retry', 'dead']) await ottla.topics.create(name);
    await ottla.producer().send(traced, { value: 'v', headers: { trace: 'x', tries: '4' } });
    const seen: unknown[] = [];
    const consumer = ottla.consumer({ group: 'g', topics: [traced] });
    void consumer.run({
      retry: { attempts: 2, topic: 'retry', deadLetter: 'dead' },
      eachRecord: ({ headers }, { attempt }) => {
        seen.push([attempt, headers]);
        throw new Error('no');
      },
    });
    await clock.runUntil(ottla.idle());
    const headers = { trace: 'x', tries: 4 };
    expect(seen).toEqual([
      [1, headers],
      [2, headers],
    ]);
    const dead = defineTopic('dead', { value: 'string', headers: 'string' });
    const [letter] = await collect(ottla.read(dead));
    expect(letter!.headers).toMatchObject({
      trace: 'x',
      tries: '4',
      'ottla.dlq.topic': 'traced',
      'ottla.dlq.error': 'Error: no',
    });
    expect(await ottla.redrive('dead')).toBe(1);
    const again = await collect(ottla.read(traced));
    expect(again.map((record) => record.headers)).toEqual([headers, headers]);
  });
});

describeDirectory('headers after a restart', ({ open, reopen }) => {
  it('find what they wrote, and topics.create compares the name of their codec', async () => {
    const before = await open();
    await before.topics.create(traced);
    await before.producer().send(traced, { value: 'v', headers: { trace: 'x' } });
    const after = await reopen(before);
    await after.topics.create(traced);
    const [record] = await collect(after.read(traced));
    expect(record!.headers.trace).toBe('x');
    await expect(
      after.topics.create(defineTopic('traced', { value: 'string' })),
    ).rejects.toMatchObject({
      code: 'TOPIC_ALREADY_EXISTS',
      message: expect.stringContaining('headers codec is "string", asked for null'),
    });
  });
});
