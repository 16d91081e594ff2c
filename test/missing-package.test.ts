import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Ottla } from '../src/index.js';
import { compileSource, startChild, type CompiledSource } from './child-process.js';

let source: CompiledSource;
let place: string;

beforeAll(() => {
  source = compileSource();
  place = mkdtempSync(join(tmpdir(), 'ottla-missing-'));
});
afterAll(() => {
  source.remove();
  rmSync(place, { recursive: true, force: true });
});

/** What a process tells that has no package snappy. */
const child = (directory: string): string => `
import { Module } from 'node:module';
const resolve = Module._resolveFilename;
Module._resolveFilename = function (name, ...rest) {
  if (name !== 'snappy') return resolve.call(this, name, ...rest);
  throw Object.assign(new Error('Cannot find module'), { code: 'MODULE_NOT_FOUND' });
};
const { Ottla } = await import('./dist/index.js');
const ottla = await Ottla.open(${JSON.stringify(directory)});
const failure = async (run) => {
  try {
    return { value: await run() };
  } catch ({ name, code, message }) {
    return { name, code, message };
  }
};
const skipped = [];
const read = async () => {
  const values = [];
  const reading = ottla.read('t', { onCorrupt: (range) => skipped.push(range) });
  for await (const { value } of reading) values.push(String(value));
  return values;
};
const told = {
  producer: await failure(() => ottla.producer({ compression: 'snappy' })),
  send: await failure(async () => {
    await ottla.topics.create('u', { compression: 'snappy' });
    const producer = ottla.producer();
    const sent = await failure(() => producer.send('u', { value: 'v' }));
    const batch = await failure(() => producer.sendBatch('u', [{ value: 'v' }]));
    await producer.flush();
    return [sent.code, batch.code, (await ottla.topics.describe('u')).partitions[0].highWatermark];
  }),
  read: await failure(read),
  skipped,
  other: await failure(async () => {
    await ottla.producer({ compression: 'lz4' }).send('t', { value: 'more' });
    return 'sent';
  }),
};
await ottla.close();
const { ok, notes } = await Ottla.verify(${JSON.stringify(directory)});
process.send({ ...told, ok, notes: notes.map(({ code }) => code) });
`;

it('a package that is missing is named, and what needs it is neither lost nor passed over', async () => {
  const directory = join(place, 'data');
  const ottla = await Ottla.open(directory);
  await ottla.topics.create('t');
  await ottla.producer({ compression: 'snappy' }).send('t', { value: 'compressed' });
  await ottla.close();

  const running = startChild(source, child(directory));
  const refusal = {
    name: 'OttlaError',
    code: 'UNSUPPORTED_COMPRESSION_TYPE',
    message:
      'compression snappy needs the package snappy, which cannot be loaded: npm install snappy',
  };
  expect(await running.next()).toEqual({
    producer: refusal,
    send: { value: ['UNSUPPORTED_COMPRESSION_TYPE', 'UNSUPPORTED_COMPRESSION_TYPE', 0] },
    read: refusal,
    skipped: [],
    other: { value: 'sent' },
    ok: true,
    notes: ['RECORDS_UNREAD'],
  });
  expect(await running.ended()).toBe(0);

  await using again = await Ottla.open(directory);
  const values: string[] = [];
  for await (const { value } of again.read('t')) values.push(String(value));
  expect(values).toEqual(['compressed', 'more']);
});
