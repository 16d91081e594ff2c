"""Transactions and a rebalance with kafka-python: kafka_python_groups.py SERVER PREFIX. Topics PREFIX-in and PREFIX-out of 2 partitions must exist."""
import sys, time
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import OffsetAndMetadata
server, prefix = sys.argv[1:3]
source, target, group = prefix + "-in", prefix + "-out", prefix + "-group"
plain = KafkaProducer(bootstrap_servers=server)
for i in range(20):
    plain.send(source, b"v%d" % i, partition=i % 2)
plain.flush()

def consumer(name=group, topic=source):
    return KafkaConsumer(topic, bootstrap_servers=server, group_id=name, auto_offset_reset="earliest",
                         enable_auto_commit=False, session_timeout_ms=6000, heartbeat_interval_ms=200,
                         isolation_level="read_committed")

def take(c, count):
    got, end = [], time.time() + 40
    while len(got) < count and time.time() < end:
        for records in c.poll(timeout_ms=200).values():
            got += records
    assert len(got) == count, len(got)
    return got

one = consumer()
records = take(one, 20)
tx = KafkaProducer(bootstrap_servers=server, transactional_id=prefix + "-tx")
tx.init_transactions()
for commit in (False, True):
    tx.begin_transaction()
    for r in records:
        tx.send(target, (b"yes " if commit else b"no ") + r.value, partition=r.partition)
    offsets = {p: OffsetAndMetadata(one.position(p), "", -1) for p in one.assignment()}
    tx.send_offsets_to_transaction(offsets, group)
    if commit:
        tx.commit_transaction()
    else:
        tx.abort_transaction()
        assert all(one.committed(p) is None for p in one.assignment())
assert {p.partition: one.committed(p) for p in one.assignment()} == {0: 10, 1: 10}
reader = consumer(prefix + "-reader", target)
assert sorted(r.value for r in take(reader, 20)) == sorted(b"yes v%d" % i for i in range(20))
reader.close()
two = consumer()
def until(ok):
    end = time.time() + 40
    while not ok() and time.time() < end:
        one.poll(timeout_ms=100); two.poll(timeout_ms=100)
    assert ok(), (one.assignment(), two.assignment())
until(lambda: len(one.assignment()) == 1 and len(two.assignment()) == 1)
two.close()
end = time.time() + 40
while len(one.assignment()) != 2 and time.time() < end:
    one.poll(timeout_ms=100)
assert len(one.assignment()) == 2
one.close()
print("kafka-python groups ok")
