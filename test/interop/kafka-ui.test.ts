import { describe, expect, it } from 'vitest';
import { serve } from '../../src/server/index.js';
import { Ottla } from '../../src/index.js';
import { notRun, runJava, whyNotRun } from './kafka-tools.js';

describe.skipIf(whyNotRun !== null)(`What kafka-ui shows of a cluster${notRun}`, () => {
  it('is told to Kafka’s admin client, but for rights and quotas: there are none', async () => {
    await using ottla = Ottla.memory();
    await ottla.topics.create('orders', { partitions: 2 });
    await ottla.producer().send('orders', { value: 'tea', partition: 0 });
    await using consumer = ottla.consumer({ group: 'packing', topics: ['orders'] });
    for await (const record of consumer) {
      await record.commit();
      break;
    }
    const server = await serve(ottla);
    const told = await runJava('KafkaUi', server.bootstrap, 'orders', 'packing');
    expect(told.trimEnd().split('\n')).toEqual([
      'cluster: 1 null',
      'broker: true',
      'topics: [orders]',
      'topic: 2',
      'configs: delete',
      'bytes: true',
      'earliest: 0',
      'latest: 1',
      'groups: [packing]',
      'group: Stable',
      'offsets: 1',
      'producers: 0',
      'rights: UnsupportedVersionException',
      'quotas: UnsupportedVersionException',
    ]);
  });
});
