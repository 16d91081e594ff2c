import { expect, it } from 'vitest';
import type { HeadersIn, RecordToSend } from '../src/index.js';
import { collect, describeContract, failureOf } from './contract.js';

describeContract('send', ({ open }) => {
  it('says where the record is', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 2 });
    const producer = ottla.producer();
    const sent = [
      await producer.send('orders', { value: 'a', partition: 1, timestamp: 5 }),
      await producer.send('orders', { value: 'b', partition: 1, timestamp: 4 }),
      await producer.send('orders', { value: 'c', partition: 0, timestamp: 6 }),
    ];
    expect(sent).toEqual([
      { topic: 'orders', partition: 1, offset: 0, timestamp: 5 },
      { topic: 'orders', partition: 1, offset: 1, timestamp: 4 },
      { topic: 'orders', partition: 0, offset: 0, timestamp: 6 },
    ]);
  });

  it('gives back what it was given', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const bytes = new Uint8Array([0, 255, 7]).subarray(1);
    const headers: HeadersIn = [['h', 'é']];
    await ottla.producer().send('orders', { key: 'ключ', value: bytes, headers, timestamp: 9 });
    const [record, ...more] = await collect(ottla.read('orders'));
    expect(more).toEqual([]);
    expect(record).toMatchObject({ topic: 'orders', partition: 0, offset: 0, timestamp: 9 });
    expect(record?.key).toEqual(Buffer.from('ключ'));
    expect(record?.value).toEqual(Buffer.from([255, 7]));
    expect(record?.headers).toEqual([['h', Buffer.from('é')]]);
  });

  it.each([
    ['a tombstone', { key: 'k', value: null }, ['k', null]],
    ['no key', { value: 'v' }, [null, 'v']],
    ['a key that is null', { key: null, value: 'v' }, [null, 'v']],
    ['neither', { key: null, value: null }, [null, null]],
    ['an empty key and value', { key: '', value: '' }, ['', '']],
    ['the same as bytes', { key: new Uint8Array(), value: Buffer.alloc(0) }, ['', '']],
  ])('keeps %s', async (_, record, expected) => {
    const ottla = await open();
    await ottla.topics.create('orders');
    await ottla.producer().send('orders', record);
    const [read] = await collect(ottla.read('orders'));
    expect([read!.key?.toString() ?? null, read!.value?.toString() ?? null]).toEqual(expected);
  });

  it('takes every length at which a varint grows', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producer = ottla.producer({ acks: 1 });
    const lengths = [0, 1, 9, 10, 23, 24, 63, 64, 4095, 4096, 8191, 8192, 65_535, 1_000_000];
    const values = lengths.flatMap((length) => ['v'.repeat(length), '\u00e9'.repeat(length / 2)]);
    await Promise.all(values.map((value) => producer.send('orders', { key: value, value: null })));
    await Promise.all(values.map((value) => producer.send('orders', { value })));
    const read = await collect(ottla.read('orders'));
    expect(read.map(({ key, value }) => String(key ?? value))).toEqual([...values, ...values]);
  });

  it('encodes the record before it returns', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producer = ottla.producer();
    const bytes = Buffer.from('0');
    const header = Buffer.from('0');
    const record = { key: bytes, value: bytes, headers: { h: header }, timestamp: 0 };
    const sent = [];
    for (let i = 0; i < 3; i++) {
      bytes.write(String(i));
      header.write(String(i));
      record.timestamp = i;
      sent.push(producer.send('orders', record));
    }
    bytes.write('x');
    header.write('x');
    record.headers.h = Buffer.from('y');
    await Promise.all(sent);
    const read = await collect(ottla.read('orders'));
    const shown = read.map(({ key, value, headers, timestamp }) =>
      [key, value, headers[0]?.[1], timestamp].join(),
    );
    expect(shown).toEqual(['0,0,0,0', '1,1,1,1', '2,2,2,2']);
  });

  it('keeps the order of the calls, whether they are of send or sendBatch', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const [one, other] = [ottla.producer(), ottla.producer({ acks: 1, lingerMs: 1000 })];
    await Promise.all([
      one.send('orders', { value: '0' }),
      other.send('orders', { value: '1' }),
      one.sendBatch('orders', [{ value: '2' }, { value: '3' }]),
      other.send('orders', { value: '4' }),
      one.send('orders', { value: '5' }),
      other.sendBatch('orders', new Set([{ value: '6' }])),
      one.send('orders', { value: '7' }),
    ]);
    const read = await collect(ottla.read('orders'));
    expect(read.map(({ value }) => String(value)).join('')).toBe('01234567');
    expect(read.map(({ offset }) => offset)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('writes records of all acks in one order, and settles each as it asked', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producers = ([0, 1, 'all'] as const).map((acks) => ottla.producer({ acks }));
    const sent = [];
    for (let i = 0; i < 9; i++) sent.push(producers[i % 3]!.send('orders', { value: String(i) }));
    const offsets = (await Promise.all(sent)).map(({ offset }) => offset);
    expect(offsets).toEqual([-1, 1, 2, -1, 4, 5, -1, 7, 8]);
    const read = await collect(ottla.read('orders'));
    expect(read.map(({ value }) => String(value)).join('')).toBe('012345678');
  });

  it('with acks 0 tells the partition and the timestamp, and writes all the same', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { partitions: 3 });
    const producer = ottla.producer({ acks: 0 });
    expect(await producer.send('orders', { value: 'a', partition: 2, timestamp: 8 })).toEqual({
      topic: 'orders',
      partition: 2,
      offset: -1,
      timestamp: 8,
    });
    await producer.flush();
    expect(await collect(ottla.read('orders'))).toMatchObject([{ partition: 2, offset: 0 }]);
  });

  it('stamps a record with the time of the send, or with its own', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producer = ottla.producer();
    const before = Date.now();
    const { timestamp } = await producer.send('orders', { value: 'a' });
    expect(timestamp).toBeGreaterThanOrEqual(before);
    expect(timestamp).toBeLessThanOrEqual(Date.now());
    const own = [Number.MAX_SAFE_INTEGER, 0, 1, timestamp, 2 ** 33];
    await Promise.all(own.map((each) => producer.send('orders', { value: 'b', timestamp: each })));
    const read = await collect(ottla.read('orders'));
    expect(read.map((record) => record.timestamp)).toEqual([timestamp, ...own]);
  });

  it('has the time of the log where the topic says so', async () => {
    const ottla = await open();
    await ottla.topics.create('orders', { messageTimestampType: 'LogAppendTime' });
    const producer = ottla.producer();
    const before = Date.now();
    const sent = await producer.send('orders', { value: 'a', timestamp: 1 });
    await producer.sendBatch('orders', [{ value: 'b', timestamp: 2 }]);
    expect(sent.timestamp).toBeGreaterThanOrEqual(before);
    const read = await collect(ottla.read('orders'));
    expect(read[0]?.timestamp).toBe(sent.timestamp);
    expect(read[1]?.timestamp).toBeGreaterThanOrEqual(sent.timestamp);
    expect(read[1]?.timestamp).toBeLessThanOrEqual(Date.now());
  });

  it.each<[what: string, headers: HeadersIn, expected: [string, string | null][]]>([
    ['none', [], []],
    [
      'an object',
      { a: '1', b: Buffer.from('2'), c: null },
      [
        ['a', '1'],
        ['b', '2'],
        ['c', null],
      ],
    ],
    [
      'pairs',
      [
        ['a', '1'],
        ['b', new Uint8Array([50])],
      ],
      [
        ['a', '1'],
        ['b', '2'],
      ],
    ],
    [
      'a name that comes again',
      [
        ['a', '1'],
        ['b', ''],
        ['a', null],
      ],
      [
        ['a', '1'],
        ['b', ''],
        ['a', null],
      ],
    ],
    ['__proto__ in pairs', [['__proto__', 'x']], [['__proto__', 'x']]],
    ['__proto__ in an object', JSON.parse('{"__proto__":"x"}') as HeadersIn, [['__proto__', 'x']]],
    ['an object without prototype', Object.assign(Object.create(null), { a: '1' }), [['a', '1']]],
    ['an empty name', { '': '1' }, [['', '1']]],
    [
      'a long name',
      { ['né'.repeat(3000)]: 'v'.repeat(9000) },
      [['né'.repeat(3000), 'v'.repeat(9000)]],
    ],
  ])('headers: %s', async (_, headers, expected) => {
    const ottla = await open();
    await ottla.topics.create('orders');
    await ottla.producer().send('orders', { value: 'v', headers });
    await ottla.producer().sendBatch('orders', [{ value: 'v', headers }]);
    for (const record of await collect(ottla.read('orders'))) {
      const shown = record.headers.map(([name, value]) => [name, value?.toString() ?? null]);
      expect(shown).toEqual(expected);
    }
  });

  it.each<[what: string, record: unknown, expected: RegExp]>([
    ['a record that is null', null, /expected a record \{ key, value \}, got null/],
    ['a record that is a string', 'v', /got 'v'/],
    ['a record with no value', { key: 'k' }, /value.+got undefined/],
    ['a value that is a number', { value: 7 }, /value: expected.+got 7/],
    ['a value that is an object', { value: { id: 7 } }, /got \{ id: 7 \}.+codec/],
    ['a key that is a number', { key: 7, value: '' }, /key: expected.+got 7/],
    ['a timestamp that is a Date', { value: '', timestamp: new Date(0) }, /timestamp must be/],
    ['a timestamp that is a string', { value: '', timestamp: '5' }, /timestamp must be.+got '5'/],
    ['headers that are a string', { value: '', headers: 'abc' }, /headers.+got 'abc'/],
    ['headers that are null', { value: '', headers: null }, /headers.+got null/],
    ['headers that are a list', { value: '', headers: ['a', 'b'] }, /headers.+got \[/],
    ['headers that are a Map', { value: '', headers: new Map([['a', 'b']]) }, /headers.+got Map/],
    ['a header that is a number', { value: '', headers: { a: 1 } }, /got \[ 'a', 1 \]/],
    ['a header of no value', { value: '', headers: [['a']] }, /got \[ 'a', undefined \]/],
    ['a header name that is a number', { value: '', headers: [[1, 'a']] }, /got \[ 1, 'a' \]/],
    ['a partition that is a string', { value: '', partition: '0' }, /partition.+got '0'/],
  ])('%s is a TypeError that says so', async (_, record, expected) => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producer = ottla.producer();
    const failures = [
      await failureOf(() => producer.send('orders', record as RecordToSend)),
      await failureOf(() => producer.sendBatch('orders', [record as RecordToSend])),
    ];
    for (const error of failures) {
      expect(error).toBeInstanceOf(TypeError);
      expect(error.message).toMatch(expected);
      expect(error.message).toContain('orders');
    }
    expect(await collect(ottla.read('orders'))).toEqual([]);
  });

  it.each([-1, 1.5, NaN, Infinity, 2 ** 53])(
    'a timestamp of %d is a RangeError',
    async (timestamp) => {
      const ottla = await open();
      await ottla.topics.create('orders');
      const sent = ottla.producer().send('orders', { value: 'a', timestamp });
      await expect(sent).rejects.toThrow(RangeError);
      await expect(sent).rejects.toThrow(`got ${timestamp}`);
    },
  );

  it.each<[what: string, record: RecordToSend]>([
    ['value', { value: Buffer.alloc(5000) }],
    ['key', { key: 'k'.repeat(5000), value: null }],
    ['header', { value: 'v', headers: { h: 'h'.repeat(5000) } }],
    ['value of three bytes a letter', { value: '\u20ac'.repeat(1700) }],
  ])('a %s that is too large is refused, and nothing is written', async (_, record) => {
    const ottla = await open();
    ottla.on('error', () => undefined);
    await ottla.topics.create('orders', { maxMessageBytes: 4096 });
    const producer = ottla.producer();
    const tooLarge = {
      name: 'OttlaError',
      code: 'MESSAGE_TOO_LARGE',
      retriable: false,
      message: expect.stringMatching(/orders.+5\d\d\d bytes.+4096/),
    };
    await expect(producer.send('orders', record)).rejects.toMatchObject(tooLarge);
    const batch = producer.sendBatch('orders', [{ value: 'a' }, record, { value: 'b' }]);
    await expect(batch).rejects.toMatchObject({ ...tooLarge, written: [] });
    expect(await collect(ottla.read('orders'))).toEqual([]);
    expect(await producer.send('orders', { value: 'v'.repeat(4000) })).toMatchObject({ offset: 0 });
  });

  it('refuses options of a send that it does not know', async () => {
    const ottla = await open();
    await ottla.topics.create('orders');
    const producer = ottla.producer();
    const options = [{ signal: 'x' }, { timeout: 5 }] as object[];
    for (const bad of options) {
      await expect(producer.send('orders', { value: '' }, bad)).rejects.toThrow(TypeError);
      await expect(producer.sendBatch('orders', [], bad)).rejects.toThrow(TypeError);
    }
  });
});
