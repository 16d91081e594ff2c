import { expect, it } from 'vitest';
import { defineTopic, type InvalidRecord, type Ottla, type OttlaError } from '../src/index.js';
import { testOttla } from '../src/testing/index.js';
import { committed, take } from './consuming.js';
import { collect, describeContract, failureOf } from './contract.js';

const numbers = defineTopic('numbers', { value: 'json' });
const group = { group: 'g', topics: [numbers] } as const;

/** Values 0, 1 and 4 in their codec, and two others that are none. */
async function withInvalid(ottla: Ottla): Promise<Ottla> {
  await ottla.topics.create(numbers);
  const producer = ottla.producer();
  await producer.sendBatch(
    'numbers',
    ['0', '1', '{', '}', '4'].map((value) => ({ value })),
  );
  return ottla;
}

describeContract('a record that cannot be decoded', ({ open }) => {
  it('fails the iteration, which says which it is, and meets it again', async () => {
    const ottla = await withInvalid(await open());
    const consumer = ottla.consumer(group);
    const met = { code: 'INVALID_RECORD', at: { topic: 'numbers', partition: 0, offset: 2 } };
    expect(await failureOf(() => take(consumer, 3))).toMatchObject(met);
    const failure = await failureOf(() => take(consumer, 1));
    expect(failure).toMatchObject(met);
    const { at } = failure as OttlaError;
    for (const offset of [2, 3]) await consumer.seek({ ...at!, offset: offset + 1 });
    expect((await take(consumer, 1)).map(({ value }) => value)).toEqual([4]);
  });

  it('is passed over with a warning if told so, and committed', async () => {
    const ottla = await withInvalid(await open());
    const warnings: string[] = [];
    ottla.on('warning', (warning) => void warnings.push(warning));
    const consumer = ottla.consumer({ ...group, onInvalid: 'skip' });
    expect((await take(consumer, 3)).map(({ value }) => value)).toEqual([0, 1, 4]);
    expect(warnings).toEqual([
      expect.stringMatching(/numbers-0: the value at offset 2 .*; passed over$/),
      expect.stringMatching(/numbers-0: the value at offset 3 .*; passed over$/),
    ]);
    await consumer.commit();
    expect(await committed(ottla, 'g', 'numbers')).toEqual([4]);
  });

  it('at the end of the log is passed over too', async () => {
    const ottla = await open();
    await ottla.topics.create(numbers);
    await ottla.producer().send('numbers', { value: '{' });
    const passed: InvalidRecord[] = [];
    const consumer = ottla.consumer({ ...group, onInvalid: (one) => void passed.push(one) });
    const batches = consumer.batches();
    void batches.next();
    await ottla.idle();
    expect(passed).toMatchObject([{ offset: 0, error: { code: 'INVALID_RECORD' } }]);
    expect(await committed(ottla, 'g', 'numbers')).toEqual([1]);
  });

  it('is told to a function, whose error is thrown on', async () => {
    const ottla = await withInvalid(await open());
    const no = new Error('no');
    const onInvalid = (): void => {
      throw no;
    };
    expect(await failureOf(() => take(ottla.consumer({ ...group, onInvalid }), 3))).toBe(no);
    expect(await failureOf(() => collect(ottla.read(numbers, { onInvalid })))).toBe(no);
  });

  it('is passed over by a reading too', async () => {
    const ottla = await withInvalid(await open());
    expect(await failureOf(() => collect(ottla.read(numbers)))).toMatchObject({
      code: 'INVALID_RECORD',
    });
    const passed: number[] = [];
    const onInvalid = ({ offset }: InvalidRecord): void => void passed.push(offset);
    const records = await collect(ottla.read(numbers, { onInvalid }));
    expect([records.map(({ value }) => value), passed]).toEqual([
      [0, 1, 4],
      [2, 3],
    ]);
    const wrong = { onInvalid: 'pass' as 'skip' };
    expect(await failureOf(() => ottla.read(numbers, wrong))).toBeInstanceOf(TypeError);
    expect(await failureOf(() => ottla.consumer({ ...group, ...wrong }))).toBeInstanceOf(TypeError);
  });

  it('goes from run() to the dead-letter topic, as its bytes', async () => {
    const ottla = await withInvalid(await open());
    await ottla.topics.create('letters');
    const seen: unknown[] = [];
    const consumer = ottla.consumer(group);
    const run = consumer.run({
      eachRecord: ({ value }) => void seen.push(value),
      retry: { attempts: 3, deadLetter: 'letters' },
    });
    await ottla.idle();
    await consumer.stop();
    await run;
    expect(seen).toEqual([0, 1, 4]);
    const letters = await collect(ottla.read('letters'));
    expect(letters.map(({ value }) => String(value))).toEqual(['{', '}']);
    const headers = new Map(letters[0]!.headers.map(([name, value]) => [name, String(value)]));
    expect(headers.get('ottla.dlq.attempts')).toBe('0');
    expect(headers.get('ottla.dlq.error')).toMatch(/^OttlaError: numbers-0: the value at offset 2/);
  });
});

it('in run() pauses its partition alone, until that is resumed', async (test) => {
  const { ottla, clock, errors } = testOttla(test);
  const two = defineTopic('two', { partitions: 2, value: 'json' });
  await ottla.topics.create(two);
  for (const [partition, value] of [
    [0, '0'],
    [0, '{'],
    [0, '2'],
    [1, '3'],
    [1, '4'],
  ] as const) {
    await ottla.producer().send('two', { partition, value });
  }
  const seen: unknown[] = [];
  const consumer = ottla.consumer({ group: 'g', topics: [two] });
  const run = consumer.run({ eachRecord: ({ value }) => void seen.push(value) });
  await clock.advance(1000);
  expect(new Set(seen)).toEqual(new Set([0, 3, 4]));
  expect(errors).toMatchObject([{ code: 'INVALID_RECORD', at: { partition: 0, offset: 1 } }]);
  consumer.resume([{ topic: 'two', partition: 0 }]);
  await clock.advance(1000);
  expect(errors).toHaveLength(2);
  await consumer.seek({ topic: 'two', partition: 0, offset: 2 });
  consumer.resume([{ topic: 'two', partition: 0 }]);
  await ottla.idle();
  expect(seen).toContain(2);
  await consumer.stop();
  await run;
});
