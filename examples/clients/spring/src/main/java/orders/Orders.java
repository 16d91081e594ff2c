package orders;

import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.messaging.handler.annotation.SendTo;

/** The app: packs what is ordered. */
@SpringBootApplication
public class Orders {
  @KafkaListener(topics = "orders", groupId = "packing", properties = "auto.offset.reset=earliest")
  @SendTo("packed")
  String pack(String order) {
    return "packed " + order;
  }
}
