"""Reads a topic, or topics that match '^…', in a group of the consumer protocol (KIP-848) until it is told to end.

Arguments: server, topic, group and, of a static member, its instance.
Prints the values, one a line.
"""
import signal
import sys

from confluent_kafka import Consumer

server, topic, group = sys.argv[1:4]
config = {
    'bootstrap.servers': server,
    'group.id': group,
    'group.protocol': 'consumer',
    'auto.offset.reset': 'earliest',
}
if len(sys.argv) > 4:
    config['group.instance.id'] = sys.argv[4]
consumer = Consumer(config)
is_over = False


def end(*_):
    global is_over
    is_over = True


signal.signal(signal.SIGTERM, end)
consumer.subscribe([topic])
while not is_over:
    message = consumer.poll(0.2)
    if message is None:
        continue
    if message.error():
        print(message.error(), file=sys.stderr)
        continue
    print(message.value().decode(), flush=True)
consumer.close()
