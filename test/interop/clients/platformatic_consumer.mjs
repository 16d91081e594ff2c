// Reads a topic in a group of the consumer protocol (KIP-848) until it is told to end, and prints the values, one a
// line. Arguments: server, topic, group and, of a static member, its instance.
import process from 'node:process';
import { Consumer, MessagesStreamModes, stringDeserializers } from '@platformatic/kafka';

const [server, topic, groupId, groupInstanceId] = process.argv.slice(2);
const consumer = new Consumer({
  clientId: 'platformatic',
  bootstrapBrokers: [server],
  groupId,
  ...(groupInstanceId === undefined ? {} : { groupInstanceId }),
  groupProtocol: 'consumer',
  deserializers: stringDeserializers,
});
const stream = await consumer.consume({
  topics: [topic],
  mode: MessagesStreamModes.COMMITTED,
  fallbackMode: MessagesStreamModes.EARLIEST,
  autocommit: true,
  maxWaitTime: 500,
});
process.on('SIGTERM', () => {
  void stream.close().then(() => consumer.close(true));
});
for await (const { value } of stream) console.log(value);
