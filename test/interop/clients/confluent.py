"""confluent-kafka (librdkafka): confluent.py FEATURE SERVER TOPIC CA. What each feature is to do: matrix.test.ts."""
import sys, time
import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition, ConsumerGroupTopicPartitions, OFFSET_BEGINNING
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec

feature, server, topic, ca = (sys.argv[1:] + [""] * 4)[:4]
base = {"bootstrap.servers": server}

def producer(**options):
    return Producer({**base, **{k.replace("_", "."): v for k, v in options.items()}})

def consumer(group, **options):
    # By the consumer protocol these are the broker's to choose.
    timing = {} if "group_protocol" in options else {"session.timeout.ms": 6000, "heartbeat.interval.ms": 200}
    return Consumer({**base, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False, **timing,
                     **{k.replace("_", "."): v for k, v in options.items()}})

def flush(p):
    assert p.flush(30) == 0

def until(ok, *polled):
    end = time.time() + 60
    while not ok():
        assert time.time() < end, "timed out"
        for step in polled:
            step()

def take(c, count):
    got = []
    def step():
        got.extend(r for r in c.consume(count - len(got), timeout=0.2) if r.error() is None)
    until(lambda: len(got) >= count, step)
    return got

def fails(run, *names):
    try:
        run()
    except KafkaException as error:
        assert error.args[0].name() in names, error
        return
    raise AssertionError(f"expected {names}")

def produce():
    for acks in ("0", "1", "all"):
        p = producer(acks=acks)
        for i in range(10):
            p.produce(topic, key=f"k{i}", value=f"{acks}-{i}", headers=[("h", b"x")])
        flush(p)

def idempotent():
    p = producer(enable_idempotence=True, linger_ms=0)
    for i in range(20):
        p.produce(topic, value=str(i), partition=0)
        p.poll(0)
    flush(p)

def compression():
    # It sends as it is what compression makes no smaller: a slow machine may send the records one by one.
    key = "k" * 200
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        p = producer(compression_type=codec, linger_ms=200)
        for i in range(50):
            p.produce(topic, key=key, value=f"{codec}-{i}", partition=0)
        flush(p)

def consume():
    c = consumer(topic + "-unused")
    c.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in (0, 1)])
    got = take(c, 100)
    for p in (0, 1):
        mine = [r for r in got if r.partition() == p]
        assert [r.offset() for r in mine] == list(range(50))
        assert [r.value().decode() for r in mine] == [f"{p}-{i}" for i in range(50)]
        assert all(r.key() == b"k" and r.headers() == [("h", b"x")] for r in mine)
        assert [r.timestamp()[1] for r in mine] == list(range(1000, 1050))
    c.assign([TopicPartition(topic, 1, 40)])
    assert [r.value().decode() for r in take(c, 10)] == [f"1-{i}" for i in range(40, 50)]
    at = c.offsets_for_times([TopicPartition(topic, 0, 1025)], timeout=10)
    assert at[0].offset == 25, at
    assert c.get_watermark_offsets(TopicPartition(topic, 0), timeout=10) == (0, 50)
    c.close()

def group(**options):
    p = producer()
    read = []
    def send(begin, end):
        for i in range(begin, end):
            p.produce(topic, value=str(i), partition=i % 2)
        flush(p)
    def step(c):
        def poll():
            r = c.poll(0.05)
            if r is not None and r.error() is None:
                read.append(int(r.value()))
                c.commit(r, asynchronous=False)
        return poll
    one, two = consumer(topic, **options), consumer(topic, **options)
    one.subscribe([topic])
    send(0, 20)
    until(lambda: set(read) == set(range(20)), step(one))
    two.subscribe([topic])
    shared = lambda: len(one.assignment()) == 1 and len(two.assignment()) == 1
    if not options:
        until(shared, step(one), step(two))
    send(20, 40)
    until(shared, step(one), step(two))
    until(lambda: set(read) == set(range(40)), step(one), step(two))
    two.close()
    send(40, 60)
    until(lambda: set(read) == set(range(60)), step(one))
    assert len(read) == 60, "read twice"
    one.close()

def kip848():
    group(group_protocol="consumer")

def commit():
    one = consumer(topic)
    one.subscribe([topic])
    take(one, 100)
    one.commit(offsets=[TopicPartition(topic, 0, 7, metadata="here"), TopicPartition(topic, 1, 50)], asynchronous=False)
    got = one.committed([TopicPartition(topic, p) for p in (0, 1)], timeout=10)
    assert [(p.offset, p.metadata) for p in got] == [(7, "here"), (50, None)] or \
        [(p.offset, p.metadata) for p in got] == [(7, "here"), (50, "")], got
    one.close()
    two = consumer(topic)
    two.subscribe([topic])
    assert [r.offset() for r in take(two, 43)] == list(range(7, 50))
    two.commit(asynchronous=False)
    two.close()

def transactions():
    out = topic + "-out"
    one = consumer(topic, isolation_level="read_committed")
    one.subscribe([topic])
    records = take(one, 100)
    tx = producer(transactional_id=topic, transaction_timeout_ms=20000)
    tx.init_transactions(20)
    for is_committed in (False, True):
        tx.begin_transaction()
        for r in records:
            tx.produce(out, value=(b"yes " if is_committed else b"no ") + r.value(), partition=r.partition())
        flush(tx)  # What was not sent is dropped by an abort.
        tx.send_offsets_to_transaction(one.position(one.assignment()), one.consumer_group_metadata(), 20)
        if is_committed:
            tx.commit_transaction(20)
        else:
            tx.abort_transaction(20)
        got = one.committed(one.assignment(), timeout=10)
        assert all((p.offset == 50) if is_committed else (p.offset < 0) for p in got), got
    for isolation, count in (("read_committed", 100), ("read_uncommitted", 200)):
        reader = consumer(topic + isolation, isolation_level=isolation)
        reader.subscribe([out])
        values = [r.value() for r in take(reader, count)]
        assert len([v for v in values if v.startswith(b"yes ")]) == 100
        assert reader.poll(0.5) is None
        reader.close()
    one.close()
    # A second holder of the transactional id fences the first.
    tx.begin_transaction()
    tx.produce(out, value=b"zombie", partition=0)
    other = producer(transactional_id=topic)
    other.init_transactions(20)
    fails(lambda: tx.commit_transaction(20), "_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH")

def done(futures):
    return {k: f.result(20) for k, f in futures.items()}

def topics():
    admin = AdminClient(base)
    t = topic + "-made"
    done(admin.create_topics([NewTopic(t, 2, 1, config={"retention.ms": "1000"})]))
    fails(lambda: done(admin.create_topics([NewTopic(t, 2, 1)])), "TOPIC_ALREADY_EXISTS")
    assert t in admin.list_topics(timeout=10).topics
    done(admin.create_partitions([NewPartitions(t, 3)]))
    described = done(admin.describe_topics(confluent_kafka.TopicCollection([t])))[t]
    assert [(p.id, p.leader.id) for p in described.partitions] == [(0, 1), (1, 1), (2, 1)]
    resource = ConfigResource(ConfigResource.Type.TOPIC, t)
    assert done(admin.describe_configs([resource]))[resource]["retention.ms"].value == "1000"
    change = ConfigResource(ConfigResource.Type.TOPIC, t, incremental_configs=[
        ConfigEntry("segment.ms", "5000", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE)])
    done(admin.incremental_alter_configs([change]))
    configs = done(admin.describe_configs([resource]))[resource]
    assert (configs["segment.ms"].value, configs["retention.ms"].value) == ("5000", "604800000")
    p = producer()
    for i in range(10):
        p.produce(t, value=str(i), partition=0)
    flush(p)
    at = TopicPartition(t, 0, 4)
    assert list(done(admin.delete_records([at])).values())[0].low_watermark == 4
    spec = {TopicPartition(t, 0): OffsetSpec.earliest()}
    assert [r.offset for r in done(admin.list_offsets(spec)).values()] == [4]
    assert admin.describe_cluster().result(10).controller.id == 1
    done(admin.delete_topics([t]))
    assert t not in admin.list_topics(timeout=10).topics

def groups():
    admin = AdminClient(base)
    c = consumer(topic)
    c.subscribe([topic])
    take(c, 100)
    c.commit(asynchronous=False)
    assert topic in [g.group_id for g in admin.list_consumer_groups().result(10).valid]
    described = done(admin.describe_consumer_groups([topic]))[topic]
    assert (described.state.name, len(described.members), len(described.members[0].assignment.topic_partitions)) == \
        ("STABLE", 1, 2)
    fails(lambda: done(admin.delete_consumer_groups([topic])), "NON_EMPTY_GROUP")
    c.close()
    request = [ConsumerGroupTopicPartitions(topic)]
    offsets = lambda: sorted((p.partition, p.offset) for p in
                             done(admin.list_consumer_group_offsets(request))[topic].topic_partitions)
    assert offsets() == [(0, 50), (1, 50)]
    done(admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(topic, [TopicPartition(topic, 0, 3)])]))
    assert offsets() == [(0, 3), (1, 50)]
    done(admin.delete_consumer_groups([topic]))
    assert topic not in [g.group_id for g in admin.list_consumer_groups().result(10).valid]

def round_trip(name):
    p = producer()
    p.produce(topic, value=name, partition=0)
    flush(p)
    c = consumer(topic + name)
    c.subscribe([topic])
    until(lambda: name.encode() in [r.value() for r in take(c, 1)])
    c.close()

def sasl():
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        base.update({"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism,
                     "sasl.username": "alice", "sasl.password": "secret"})
        round_trip(mechanism)
        wrong = []
        p = Producer({**base, "sasl.password": "wrong", "error_cb": wrong.append, "log_level": 0})
        until(lambda: any(error.name() == "_AUTHENTICATION" for error in wrong), lambda: p.poll(0.1))

def tls():
    base.update({"security.protocol": "SSL", "ssl.ca.location": ca})
    round_trip("tls")

if feature == "version":
    print(f"{confluent_kafka.version()}, librdkafka {confluent_kafka.libversion()[0]}")
else:
    globals()[feature]()
    print("ok")
