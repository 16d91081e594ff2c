import { describe, expect, it } from 'vitest';
import { LocalEngine } from '../src/local.js';
import { Producer } from '../src/producer.js';
import { FaultyMachine } from './faulty-machine.js';
import { createTopic, firstLog, partitionOf, valuesIn } from './machine.js';
import { ioError } from './watched-files.js';

const records = Array.from({ length: 12 }, (_, i) => ({ value: `${i}`.padEnd(40, '.') }));
const quiet = { error: () => undefined, warning: () => undefined, closed: () => undefined };

interface Cut {
  readonly kept: number;
  readonly written: readonly { readonly baseOffset: number; readonly count: number }[];
  readonly values: readonly string[];
}

/**
 * A sendBatch of several batches whose sync fails; only so many bytes of it outlive the reopening. Then
 * another producer may be first.
 */
async function cutAt(bytes: number, other: string | null): Promise<Cut> {
  const machine = new FaultyMachine();
  const broker = await machine.open();
  await createTopic(broker, { maxMessageBytes: 240 });
  const engine = new LocalEngine(broker, quiet);
  const producer = new Producer(engine, machine.clock, () => 0, { idempotent: true }, quiet);
  const plain = new Producer(engine, machine.clock, () => 0, {}, quiet);
  machine.fault = ({ name, path }) =>
    name === 'sync' && path.endsWith('.log') ? ioError('sync', path) : undefined;
  const sent = producer.sendBatch('t', records);
  sent.catch(() => undefined);
  await machine.clock.settle();
  expect(partitionOf(broker).failure).not.toBeNull();
  machine.fault = () => undefined;
  machine.write(firstLog, machine.read(firstLog).subarray(0, bytes));
  await broker.reopen({ topic: 't', partition: 0 });
  const kept = partitionOf(broker).logEndOffset;
  if (other !== null) await plain.send('t', { value: other });
  await machine.clock.advance(1000);
  const written = await sent;
  const values = await valuesIn(partitionOf(broker));
  const again = partitionOf(await machine.open());
  expect(await valuesIn(again)).toEqual(values);
  return { kept, written, values };
}

describe('a sendBatch of an idempotent producer that is cut in its middle', () => {
  it.each([null, 'other'])(
    'is there once, in order, and told exactly, beside %s',
    async (other) => {
      const seen = new Set<number>();
      for (let bytes = 0; bytes <= 1300; bytes += 60) {
        const { kept, written, values } = await cutAt(bytes, other);
        seen.add(kept);
        expect(values.filter((value) => value !== other)).toEqual(
          records.map(({ value }) => value),
        );
        const told = written.flatMap(({ baseOffset, count }) =>
          values.slice(baseOffset, baseOffset + count),
        );
        expect(told).toEqual(records.map(({ value }) => value));
      }
      expect(seen.size).toBeGreaterThan(3);
      expect(seen).toContain(0);
    },
  );
});
