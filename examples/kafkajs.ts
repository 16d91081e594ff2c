// Code for Kafka, tested without Kafka: KafkaJS talks to an Ottla in the same process, without a port.
//
//   npm run build:all && node build/examples/kafkajs.js

import { Kafka, logLevel } from 'kafkajs';
import { Ottla } from 'ottla';
import { serve } from 'ottla/server';

await using ottla = Ottla.memory();
const server = await serve(ottla, { listen: false });
const kafka = new Kafka({
  brokers: [server.bootstrap],
  socketFactory: server.socketFactory(),
  logLevel: logLevel.ERROR,
});

const producer = kafka.producer();
await producer.connect();
await producer.send({ topic: 'orders', messages: [{ key: 'ann', value: 'tea' }] });
await producer.disconnect();

const consumer = kafka.consumer({ groupId: 'packing' });
await consumer.connect();
await consumer.subscribe({ topics: ['orders'], fromBeginning: true });
const packed = new Promise<void>((resolve) => {
  void consumer.run({
    eachMessage: async ({ message }) => {
      console.log(`packed ${String(message.value)} for ${String(message.key)}`);
      resolve();
    },
  });
});
await packed;
await consumer.disconnect();

// What clients wrote is in the Ottla like anything else, and the group has committed.
const { partitions } = await ottla.groups.describe('packing');
console.log(`committed ${partitions[0]!.committed} of ${partitions[0]!.end}`);
