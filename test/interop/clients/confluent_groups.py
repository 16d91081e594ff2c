"""Transactions and a rebalance with confluent-kafka: confluent_groups.py SERVER PREFIX. Topics PREFIX-in and PREFIX-out of 2 partitions must exist."""
import sys, time
from confluent_kafka import Consumer, Producer, KafkaException
server, prefix = sys.argv[1:3]
source, target, group = prefix + "-in", prefix + "-out", prefix + "-group"
plain = Producer({"bootstrap.servers": server})
for i in range(20):
    plain.produce(source, value=f"v{i}", partition=i % 2)
assert plain.flush(20) == 0

def consumer():
    c = Consumer({"bootstrap.servers": server, "group.id": group, "auto.offset.reset": "earliest",
                  "enable.auto.commit": False, "session.timeout.ms": 6000, "heartbeat.interval.ms": 200})
    return c

def take(c, count):
    got = []
    end = time.time() + 30
    while len(got) < count and time.time() < end:
        got += [r for r in c.consume(count - len(got), timeout=0.2) if r.error() is None]
    assert len(got) == count, len(got)
    return got

one = consumer()
one.subscribe([source])
records = take(one, 20)
tx = Producer({"bootstrap.servers": server, "transactional.id": prefix + "-tx", "transaction.timeout.ms": 20000})
tx.init_transactions(20)
for commit in (False, True):
    tx.begin_transaction()
    for r in records:
        tx.produce(target, value=(b"yes " if commit else b"no ") + r.value(), partition=r.partition())
    tx.send_offsets_to_transaction(one.position(one.assignment()), one.consumer_group_metadata(), 20)
    if commit:
        tx.commit_transaction(20)
    else:
        tx.abort_transaction(20)
        got = one.committed(one.assignment(), timeout=10)
        assert all(p.offset < 0 for p in got), got
got = {p.partition: p.offset for p in one.committed(one.assignment(), timeout=10)}
assert got == {0: 10, 1: 10}, got
reader = Consumer({"bootstrap.servers": server, "group.id": prefix + "-reader", "auto.offset.reset": "earliest",
                   "isolation.level": "read_committed"})
reader.subscribe([target])
values = sorted(r.value() for r in take(reader, 20))
assert values == sorted(b"yes v%d" % i for i in range(20)), values
assert reader.poll(1) is None
reader.close()

# A second holder of the transactional id fences the first.
tx.begin_transaction()
tx.produce(target, value=b"zombie", partition=0)
other = Producer({"bootstrap.servers": server, "transactional.id": prefix + "-tx"})
other.init_transactions(20)
try:
    tx.commit_transaction(20)
    raise AssertionError("a zombie has committed")
except KafkaException as error:
    assert error.args[0].fatal() or error.args[0].code() == -144, error

# A second member takes a share, and gives it back.
two = consumer()
two.subscribe([source])
def until(ok):
    end = time.time() + 40
    while not ok() and time.time() < end:
        one.poll(0.1); two.poll(0.1)
    assert ok(), (one.assignment(), two.assignment())
until(lambda: len(one.assignment()) == 1 and len(two.assignment()) == 1)
two.close()
end = time.time() + 40
while len(one.assignment()) != 2 and time.time() < end: one.poll(0.1)
assert len(one.assignment()) == 2
one.close()
print("confluent-kafka groups ok")
