package orders;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.time.Duration;
import org.junit.jupiter.api.Test;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.boot.test.context.SpringBootTest;
import org.springframework.kafka.core.ConsumerFactory;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.test.context.DynamicPropertyRegistry;
import org.springframework.test.context.DynamicPropertySource;

@SpringBootTest
class OrdersTest {
  /** As long as this process runs: Spring keeps its contexts, which close behind the last test. */
  @DynamicPropertySource
  static void startKafka(DynamicPropertyRegistry properties) throws Exception {
    OttlaServer kafka = new OttlaServer(System.getenv("SERVE").split(" "));
    properties.add("spring.kafka.bootstrap-servers", () -> kafka.bootstrap);
  }

  @Test
  void ordersArePacked(
      @Autowired KafkaTemplate<String, String> template,
      @Autowired ConsumerFactory<String, String> consumers)
      throws Exception {
    template.send("orders", "ann", "tea").get();
    template.setConsumerFactory(consumers);
    var packed = template.receive("packed", 0, 0, Duration.ofSeconds(30));
    assertEquals("packed tea", packed.value());
  }
}
