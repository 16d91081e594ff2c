import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.function.BooleanSupplier;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.SaslAuthenticationException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/** Kafka's own client: JavaClient FEATURE SERVER TOPIC CA. What each feature is to do: matrix-features.ts. */
class JavaClient {
  static String topic;
  static TopicPartition[] parts;
  static final Map<String, Object> BASE = new HashMap<>();

  public static void main(String[] args) throws Exception {
    if (args[0].equals("version")) {
      System.out.println(AppInfoParser.getVersion());
      return;
    }
    BASE.put("bootstrap.servers", args[1]);
    topic = args[2];
    parts = new TopicPartition[] {new TopicPartition(topic, 0), new TopicPartition(topic, 1)};
    switch (args[0]) {
      case "produce" -> produce();
      case "idempotent" -> idempotent();
      case "compression" -> compression();
      case "consume" -> consume();
      case "group" -> group("classic");
      case "kip848" -> group("consumer");
      case "commit" -> commit();
      case "transactions" -> transactions();
      case "topics" -> topics();
      case "groups" -> groups();
      case "sasl" -> sasl();
      case "tls" -> tls(args[3]);
      default -> throw new IllegalArgumentException(args[0]);
    }
    System.out.println("ok");
  }

  static void expect(boolean is, Object what) {
    if (!is) throw new AssertionError(what);
  }

  static Map<String, Object> config(Object... more) {
    Map<String, Object> config = new HashMap<>(BASE);
    for (int i = 0; i < more.length; i += 2) config.put((String) more[i], more[i + 1]);
    return config;
  }

  static KafkaProducer<String, String> producer(Object... more) {
    return new KafkaProducer<>(config(more), new StringSerializer(), new StringSerializer());
  }

  static KafkaConsumer<String, String> consumer(String group, Object... more) {
    Map<String, Object> config = config(more);
    if (group != null) config.put("group.id", group);
    // By the consumer protocol these are the broker's to choose.
    if (group != null && !"consumer".equals(config.get("group.protocol"))) {
      config.put("session.timeout.ms", 6000);
      config.put("heartbeat.interval.ms", 200);
    }
    config.put("auto.offset.reset", "earliest");
    config.put("enable.auto.commit", false);
    return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
  }

  static List<ConsumerRecord<String, String>> poll(KafkaConsumer<String, String> consumer) {
    List<ConsumerRecord<String, String>> records = new ArrayList<>();
    consumer.poll(Duration.ofMillis(100)).forEach(records::add);
    return records;
  }

  static void until(BooleanSupplier is, Runnable... steps) {
    long end = System.nanoTime() + 60_000_000_000L;
    while (!is.getAsBoolean()) {
      expect(System.nanoTime() < end, "timed out");
      for (Runnable step : steps) step.run();
    }
  }

  static List<ConsumerRecord<String, String>> take(KafkaConsumer<String, String> consumer, int count) {
    List<ConsumerRecord<String, String>> records = new ArrayList<>();
    until(() -> records.size() >= count, () -> records.addAll(poll(consumer)));
    expect(records.size() == count, records.size());
    return records;
  }

  static void fails(Class<?> expected, Future<?> future) throws InterruptedException {
    try {
      future.get();
    } catch (ExecutionException failure) {
      expect(expected.isInstance(failure.getCause()), failure);
      return;
    }
    throw new AssertionError("expected " + expected);
  }

  static void produce() throws Exception {
    for (String acks : List.of("0", "1", "all")) {
      try (var producer = producer("acks", acks, "enable.idempotence", false)) {
        for (int i = 0; i < 10; i++) {
          var record = new ProducerRecord<>(topic, "k" + i, acks + "-" + i);
          record.headers().add(new RecordHeader("h", "x".getBytes(StandardCharsets.UTF_8)));
          producer.send(record).get();
        }
      }
    }
  }

  static void idempotent() {
    try (var producer = producer("enable.idempotence", true)) {
      for (int i = 0; i < 20; i++) producer.send(new ProducerRecord<>(topic, 0, null, "" + i));
    }
  }

  static void compression() {
    for (String codec : List.of("gzip", "snappy", "lz4", "zstd")) {
      try (var producer = producer("compression.type", codec, "linger.ms", 100)) {
        for (int i = 0; i < 50; i++) producer.send(new ProducerRecord<>(topic, 0, null, codec + "-" + i));
      }
    }
    try (var consumer = consumer(null)) {
      consumer.assign(List.of(parts));
      take(consumer, 200);
    }
  }

  static void consume() {
    try (var consumer = consumer(null)) {
      consumer.assign(List.of(parts));
      consumer.seekToBeginning(List.of(parts));
      int[] next = {0, 0};
      for (var record : take(consumer, 100)) {
        int i = next[record.partition()]++;
        expect(record.offset() == i && record.value().equals(record.partition() + "-" + i), record);
        expect(record.key().equals("k") && record.timestamp() == 1000 + i, record);
        expect(new String(record.headers().lastHeader("h").value()).equals("x"), record);
      }
      consumer.seek(parts[1], 40);
      int i = 40;
      for (var record : take(consumer, 10)) expect(record.value().equals("1-" + i++), record);
      expect(consumer.offsetsForTimes(Map.of(parts[0], 1025L)).get(parts[0]).offset() == 25, "time");
      expect(consumer.beginningOffsets(List.of(parts)).get(parts[0]) == 0, "beginning");
      expect(consumer.endOffsets(List.of(parts)).get(parts[0]) == 50, "end");
    }
  }

  static void group(String protocol) throws Exception {
    List<Integer> read = new ArrayList<>();
    var one = consumer(topic, "group.protocol", protocol);
    var two = consumer(topic, "group.protocol", protocol);
    try (var producer = producer()) {
      record Member(KafkaConsumer<String, String> consumer) {
        Runnable step(List<Integer> read) {
          return () -> {
            for (var record : poll(consumer)) read.add(Integer.parseInt(record.value()));
            consumer.commitSync();
          };
        }
      }
      Runnable[] steps = {new Member(one).step(read), new Member(two).step(read)};
      BooleanSupplier isShared = () -> one.assignment().size() == 1 && two.assignment().size() == 1;
      for (int first = 0; first < 60; first += 20) {
        if (first == 20) two.subscribe(List.of(topic));
        if (first == 20 && protocol.equals("classic")) until(isShared, steps);
        for (int i = first; i < first + 20; i++) {
          producer.send(new ProducerRecord<>(topic, i % 2, null, "" + i)).get();
        }
        int last = first + 20;
        if (first == 0) one.subscribe(List.of(topic));
        if (first == 20) until(isShared, steps);
        if (first == 40) two.close();
        until(() -> Set.copyOf(read).size() == last, first == 20 ? steps : new Runnable[] {steps[0]});
      }
    }
    one.close();
    expect(read.size() == 60, "read twice: " + read);
  }

  static void commit() {
    try (var consumer = consumer(topic)) {
      consumer.subscribe(List.of(topic));
      take(consumer, 100);
      consumer.commitSync(
          Map.of(parts[0], new OffsetAndMetadata(7, "here"), parts[1], new OffsetAndMetadata(50)));
      var committed = consumer.committed(Set.of(parts));
      expect(committed.get(parts[0]).offset() == 7 && committed.get(parts[0]).metadata().equals("here"), committed);
      expect(committed.get(parts[1]).offset() == 50, committed);
    }
    try (var consumer = consumer(topic)) {
      consumer.subscribe(List.of(topic));
      int offset = 7;
      for (var record : take(consumer, 43)) expect(record.offset() == offset++, record);
      consumer.commitSync();
    }
  }

  static void transactions() throws Exception {
    String out = topic + "-out";
    var producer = producer("transactional.id", topic, "transaction.timeout.ms", 20_000);
    producer.initTransactions();
    try (var consumer = consumer(topic, "isolation.level", "read_committed")) {
      consumer.subscribe(List.of(topic));
      var records = take(consumer, 100);
      for (boolean isCommitted : new boolean[] {false, true}) {
        producer.beginTransaction();
        for (var record : records) {
          String value = (isCommitted ? "yes " : "no ") + record.value();
          producer.send(new ProducerRecord<>(out, record.partition(), null, value));
        }
        producer.flush();
        var offsets = Map.of(parts[0], new OffsetAndMetadata(50), parts[1], new OffsetAndMetadata(50));
        producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
        if (isCommitted) producer.commitTransaction();
        else producer.abortTransaction();
        var committed = consumer.committed(Set.of(parts));
        expect((committed.get(parts[0]) != null) == isCommitted, committed);
      }
    }
    for (String level : List.of("read_committed", "read_uncommitted")) {
      try (var reader = consumer(topic + level, "isolation.level", level)) {
        reader.subscribe(List.of(out));
        var records = take(reader, level.equals("read_committed") ? 100 : 200);
        expect(records.stream().filter(record -> record.value().startsWith("yes ")).count() == 100, level);
        expect(poll(reader).isEmpty(), "more");
      }
    }
    // A second holder of the transactional id fences the first.
    producer.beginTransaction();
    producer.send(new ProducerRecord<>(out, 0, null, "zombie")).get();
    try (var other = producer("transactional.id", topic)) {
      other.initTransactions();
    }
    try {
      producer.commitTransaction();
      throw new AssertionError("a zombie has committed");
    } catch (ProducerFencedException | InvalidProducerEpochException expected) {
      producer.close(Duration.ZERO);
    }
  }

  static void topics() throws Exception {
    try (Admin admin = Admin.create(config())) {
      String made = topic + "-made";
      var asked = List.of(new NewTopic(made, 2, (short) 1).configs(Map.of("retention.ms", "1000")));
      admin.createTopics(asked).all().get();
      fails(TopicExistsException.class, admin.createTopics(asked).all());
      expect(admin.listTopics().names().get().contains(made), "listed");
      admin.createPartitions(Map.of(made, NewPartitions.increaseTo(3))).all().get();
      var described = admin.describeTopics(List.of(made)).allTopicNames().get().get(made);
      expect(described.partitions().size() == 3, described);
      expect(described.partitions().stream().allMatch(partition -> partition.leader().id() == 1), described);
      var resource = new ConfigResource(ConfigResource.Type.TOPIC, made);
      expect(configOf(admin, resource, "retention.ms").equals("1000"), "retention.ms");
      var changes =
          List.of(
              new AlterConfigOp(new ConfigEntry("segment.ms", "5000"), AlterConfigOp.OpType.SET),
              new AlterConfigOp(new ConfigEntry("retention.ms", ""), AlterConfigOp.OpType.DELETE));
      admin.incrementalAlterConfigs(Map.of(resource, (Collection<AlterConfigOp>) changes)).all().get();
      expect(configOf(admin, resource, "segment.ms").equals("5000"), "segment.ms");
      expect(configOf(admin, resource, "retention.ms").equals("604800000"), "retention.ms");
      try (var producer = producer()) {
        IntStream.range(0, 10).forEach(i -> producer.send(new ProducerRecord<>(made, 0, null, "" + i)));
      }
      var at = new TopicPartition(made, 0);
      var deleted = admin.deleteRecords(Map.of(at, RecordsToDelete.beforeOffset(4)));
      expect(deleted.lowWatermarks().get(at).get().lowWatermark() == 4, "low watermark");
      var listed = admin.listOffsets(Map.of(at, OffsetSpec.earliest()));
      expect(listed.partitionResult(at).get().offset() == 4, "earliest");
      expect(admin.describeCluster().controller().get().id() == 1, "controller");
      admin.deleteTopics(List.of(made)).all().get();
      expect(!admin.listTopics().names().get().contains(made), "deleted");
    }
  }

  static String configOf(Admin admin, ConfigResource resource, String name) throws Exception {
    return admin.describeConfigs(List.of(resource)).all().get().get(resource).get(name).value();
  }

  static boolean isListed(Admin admin) throws Exception {
    return admin.listGroups().all().get().stream().anyMatch(group -> group.groupId().equals(topic));
  }

  static Map<Integer, Long> offsetsOf(Admin admin) throws Exception {
    Map<Integer, Long> offsets = new HashMap<>();
    admin
        .listConsumerGroupOffsets(topic)
        .partitionsToOffsetAndMetadata()
        .get()
        .forEach((partition, offset) -> offsets.put(partition.partition(), offset.offset()));
    return offsets;
  }

  static void groups() throws Exception {
    try (Admin admin = Admin.create(config())) {
      try (var consumer = consumer(topic)) {
        consumer.subscribe(List.of(topic));
        take(consumer, 100);
        consumer.commitSync();
        expect(isListed(admin), "listed");
        var described = admin.describeConsumerGroups(List.of(topic)).all().get().get(topic);
        expect(described.groupState() == GroupState.STABLE && described.members().size() == 1, described);
        fails(GroupNotEmptyException.class, admin.deleteConsumerGroups(List.of(topic)).all());
      }
      expect(offsetsOf(admin).equals(Map.of(0, 50L, 1, 50L)), offsetsOf(admin));
      admin.alterConsumerGroupOffsets(topic, Map.of(parts[0], new OffsetAndMetadata(3))).all().get();
      expect(offsetsOf(admin).equals(Map.of(0, 3L, 1, 50L)), offsetsOf(admin));
      admin.deleteConsumerGroupOffsets(topic, new HashSet<>(List.of(parts[1]))).all().get();
      expect(offsetsOf(admin).equals(Map.of(0, 3L)), offsetsOf(admin));
      admin.deleteConsumerGroups(List.of(topic)).all().get();
      expect(!isListed(admin), "deleted");
    }
  }

  static void roundTrip(String value) throws Exception {
    try (var producer = producer()) {
      producer.send(new ProducerRecord<>(topic, 0, null, value)).get();
    }
    List<String> values = new ArrayList<>();
    try (var consumer = consumer(topic + value)) {
      consumer.subscribe(List.of(topic));
      until(() -> values.contains(value), () -> poll(consumer).forEach(record -> values.add(record.value())));
    }
  }

  static void sasl() throws Exception {
    BASE.put("security.protocol", "SASL_PLAINTEXT");
    for (String mechanism : List.of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")) {
      String module =
          mechanism.equals("PLAIN")
              ? "org.apache.kafka.common.security.plain.PlainLoginModule"
              : "org.apache.kafka.common.security.scram.ScramLoginModule";
      BASE.put("sasl.mechanism", mechanism);
      for (String password : List.of("secret", "wrong")) {
        String login = module + " required username=\"alice\" password=\"" + password + "\";";
        BASE.put("sasl.jaas.config", login);
        if (password.equals("secret")) {
          roundTrip(mechanism);
          continue;
        }
        try (Admin admin = Admin.create(config())) {
          fails(SaslAuthenticationException.class, admin.listTopics().names());
        }
      }
    }
  }

  static void tls(String ca) throws Exception {
    BASE.put("security.protocol", "SSL");
    BASE.put("ssl.truststore.type", "PEM");
    BASE.put("ssl.truststore.location", ca);
    roundTrip("tls");
  }
}
