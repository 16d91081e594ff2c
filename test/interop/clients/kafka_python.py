"""kafka-python: kafka_python.py FEATURE SERVER TOPIC CA. What each feature is to do: matrix-features.ts."""
import logging, sys, time
import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType, NewPartitions, NewTopic, OffsetSpec
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

logging.disable()
feature, server, topic, ca = (sys.argv[1:] + [""] * 4)[:4]
base = {"bootstrap_servers": server}
parts = [TopicPartition(topic, 0), TopicPartition(topic, 1)]

def producer(**options):
    return KafkaProducer(**base, **options)

def consumer(group=None, *topics, **options):
    timing = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 200} if group else {}
    return KafkaConsumer(*topics, **base, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
                         **timing, **options)

def until(ok, *polled):
    end = time.time() + 60
    while not ok():
        assert time.time() < end, "timed out"
        for step in polled:
            step()

# It gives up a join that does not end within one poll, and begins anew: they must be long enough.
POLL_MS = 5000

def take(c, count):
    got = []
    def step():
        for records in c.poll(timeout_ms=POLL_MS).values():
            got.extend(records)
    until(lambda: len(got) >= count, step)
    assert len(got) == count, len(got)
    return got

def fails(run, *names):
    try:
        run()
    except KafkaError as error:
        assert type(error).__name__ in names, repr(error)
        return
    raise AssertionError(f"expected {names}")

def produce():
    for acks in (0, 1, "all"):
        p = producer(acks=acks, enable_idempotence=False)
        for i in range(10):
            p.send(topic, key=b"k%d" % i, value=f"{acks}-{i}".encode(), headers=[("h", b"x")])
        p.flush()
        p.close()

def idempotent():
    p = producer(enable_idempotence=True)
    for i in range(20):
        p.send(topic, str(i).encode(), partition=0)
    p.close()

def compression():
    # It sends as it is what compression makes no smaller: a slow machine may send the records one by one.
    key = b"k" * 200
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        p = producer(compression_type=codec, linger_ms=200)
        for i in range(50):
            p.send(topic, f"{codec}-{i}".encode(), key=key, partition=0)
        p.close()
    c = consumer(None, topic)
    take(c, 200)
    c.close()

def consume():
    c = consumer()
    c.assign(parts)
    got = take(c, 100)
    for p in (0, 1):
        mine = [r for r in got if r.partition == p]
        assert [r.offset for r in mine] == list(range(50))
        assert [r.value.decode() for r in mine] == [f"{p}-{i}" for i in range(50)]
        assert all(r.key == b"k" and list(r.headers) == [("h", b"x")] for r in mine)
        assert [r.timestamp for r in mine] == list(range(1000, 1050))
    c.seek(parts[1], 40)
    assert [r.value.decode() for r in take(c, 10)] == [f"1-{i}" for i in range(40, 50)]
    assert c.offsets_for_times({parts[0]: 1025})[parts[0]].offset == 25
    assert (c.beginning_offsets(parts)[parts[0]], c.end_offsets(parts)[parts[0]]) == (0, 50)
    c.close()

def group():
    p = producer()
    read = []
    def send(begin, end):
        for i in range(begin, end):
            p.send(topic, str(i).encode(), partition=i % 2)
        p.flush()
    def step(c):
        def poll():
            got = [int(r.value) for records in c.poll(timeout_ms=500).values() for r in records]
            if got:
                read.extend(got)
                c.commit()
        return poll
    one = consumer(topic, topic)
    send(0, 20)
    until(lambda: set(read) == set(range(20)), step(one))
    two = consumer(topic, topic)
    until(lambda: len(one.assignment()) == 1 and len(two.assignment()) == 1, step(one), step(two))
    send(20, 40)
    until(lambda: set(read) == set(range(40)), step(one), step(two))
    two.close()
    send(40, 60)
    until(lambda: set(read) == set(range(60)), step(one))
    assert len(read) == 60, "read twice"
    one.close()

def commit():
    one = consumer(topic, topic)
    take(one, 100)
    one.commit({parts[0]: OffsetAndMetadata(7, "here", -1), parts[1]: OffsetAndMetadata(50, "", -1)})
    assert one.committed(parts[0], metadata=True)[:2] == (7, "here")
    assert one.committed(parts[1]) == 50
    one.close()
    two = consumer(topic, topic)
    assert [r.offset for r in take(two, 43)] == list(range(7, 50))
    two.commit()
    two.close()

def transactions():
    out = topic + "-out"
    one = consumer(topic, topic, isolation_level="read_committed")
    records = take(one, 100)
    tx = producer(transactional_id=topic, transaction_timeout_ms=20000)
    tx.init_transactions()
    for is_committed in (False, True):
        tx.begin_transaction()
        for r in records:
            tx.send(out, (b"yes " if is_committed else b"no ") + r.value, partition=r.partition)
        tx.flush()
        tx.send_offsets_to_transaction({p: OffsetAndMetadata(one.position(p), "", -1) for p in parts},
                                       one.group_metadata())
        if is_committed:
            tx.commit_transaction()
        else:
            tx.abort_transaction()
        assert [one.committed(p) for p in parts] == ([50, 50] if is_committed else [None, None])
    one.close()
    for isolation, count in (("read_committed", 100), ("read_uncommitted", 200)):
        reader = consumer(None, out, isolation_level=isolation)
        got = take(reader, count)
        assert len([r for r in got if r.value.startswith(b"yes ")]) == 100
        assert not reader.poll(timeout_ms=500)
        reader.close()
    # A second holder of the transactional id fences the first.
    tx.begin_transaction()
    tx.send(out, b"zombie", partition=0)
    tx.flush()
    other = producer(transactional_id=topic)
    other.init_transactions()
    fails(tx.commit_transaction, "ProducerFencedError", "InvalidProducerEpochError")
    tx.close(timeout=1)
    other.close()

def topics():
    admin = KafkaAdminClient(**base)
    t = topic + "-made"
    admin.create_topics([NewTopic(t, 2, 1, topic_configs={"retention.ms": "1000"})])
    fails(lambda: admin.create_topics([NewTopic(t, 2, 1)]), "TopicAlreadyExistsError")
    assert t in admin.list_topics()
    admin.create_partitions({t: NewPartitions(3)})
    described = admin.describe_topics([t])[0]["partitions"]
    assert sorted((p["partition_index"], p["leader_id"]) for p in described) == [(0, 1), (1, 1), (2, 1)], described
    def config(name):
        told = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, t, [name])], config_filter="all")
        return told["topic"][t][name]["value"]
    assert config("retention.ms") == "1000"
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, t, {"segment.ms": (AlterConfigOp.SET, "5000")})])
    assert config("segment.ms") == "5000"
    admin.reset_configs([ConfigResource(ConfigResourceType.TOPIC, t, ["retention.ms"])])
    assert config("retention.ms") == "604800000"
    p = producer()
    for i in range(10):
        p.send(t, str(i).encode(), partition=0)
    p.close()
    at = TopicPartition(t, 0)
    assert admin.delete_records({at: 4})[at]["low_watermark"] == 4
    assert admin.list_partition_offsets({at: OffsetSpec.EARLIEST})[at].offset == 4
    assert admin.describe_cluster()["controller_id"] == 1
    admin.delete_topics([t])
    assert t not in admin.list_topics()
    admin.close()

def groups():
    admin = KafkaAdminClient(**base)
    c = consumer(topic, topic)
    take(c, 100)
    c.commit()
    listed = lambda: [g["group_id"] for g in admin.list_groups()]
    assert topic in listed()
    described = admin.describe_groups([topic])[topic]
    assert (described["group_state"], len(described["members"])) == ("Stable", 1), described
    refused = admin.delete_groups([topic])
    assert "NonEmptyGroupError" in str(refused), refused
    c.close()
    offsets = lambda: {p.partition: o.offset for p, o in admin.list_group_offsets(topic)[topic].items()}
    assert offsets() == {0: 50, 1: 50}, offsets()
    admin.alter_group_offsets(topic, {parts[0]: OffsetAndMetadata(3, "", -1)})
    assert offsets() == {0: 3, 1: 50}
    admin.delete_group_offsets(topic, [parts[1]])
    assert offsets() == {0: 3}
    admin.delete_groups([topic])
    assert topic not in listed()
    admin.close()

def round_trip(name):
    p = producer()
    p.send(topic, name.encode(), partition=0)
    p.close()
    c = consumer(topic + name, topic)
    values = []
    until(lambda: name.encode() in values,
          lambda: values.extend(r.value for records in c.poll(timeout_ms=POLL_MS).values() for r in records))
    c.close()

def sasl():
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        base.update(security_protocol="SASL_PLAINTEXT", sasl_mechanism=mechanism,
                    sasl_plain_username="alice", sasl_plain_password="secret")
        round_trip(mechanism)
        base["sasl_plain_password"] = "wrong"
        # It tries again until it gives up.
        fails(lambda: KafkaAdminClient(**base, bootstrap_timeout_ms=2000), "KafkaTimeoutError")

def tls():
    base.update(security_protocol="SSL", ssl_cafile=ca)
    round_trip("tls")

if feature == "version":
    print(kafka.__version__)
else:
    globals()[feature]()
    print("ok")
