import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What a test does with it: java -cp … OrdersTest node build/examples/serve.js. */
class OrdersTest {
  public static void main(String[] command) throws Exception {
    try (OttlaServer server = new OttlaServer(command)) {
      Map<String, Object> client = Map.of("bootstrap.servers", server.bootstrap);
      try (var producer = new KafkaProducer<>(client, new StringSerializer(), new StringSerializer())) {
        producer.send(new ProducerRecord<>("orders", "ann", "tea")).get();
      }
      Map<String, Object> member =
          Map.of("bootstrap.servers", server.bootstrap, "group.id", "packing", "auto.offset.reset", "earliest");
      try (var consumer = new KafkaConsumer<>(member, new StringDeserializer(), new StringDeserializer())) {
        consumer.subscribe(List.of("orders"));
        var packed = consumer.poll(Duration.ofSeconds(30)).iterator().next();
        System.out.println("packed " + packed.value() + " for " + packed.key());
      }
    }
  }
}
