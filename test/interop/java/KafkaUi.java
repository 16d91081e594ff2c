import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaFilter;

/** What kafka-ui asks for to show a cluster, by Kafka's admin client as it does: KafkaUi SERVER TOPIC GROUP. */
class KafkaUi {
  public static void main(String[] args) throws Exception {
    String topic = args[1], group = args[2];
    var part = new TopicPartition(topic, 0);
    try (Admin admin = Admin.create(Map.of("bootstrap.servers", args[0]))) {
      var cluster = admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true));
      int node = cluster.controller().get().id();
      tell("cluster", () -> cluster.nodes().get().size() + " " + cluster.authorizedOperations().get());
      var broker = new ConfigResource(ConfigResource.Type.BROKER, "" + node);
      tell("broker", () -> configs(admin, broker).get("delete.topic.enable").value());
      tell("topics", () -> admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get());
      tell("topic", () -> admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size());
      var named = new ConfigResource(ConfigResource.Type.TOPIC, topic);
      tell("configs", () -> configs(admin, named).get("cleanup.policy").value());
      tell("bytes", () -> admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node).values().iterator().next()
          .replicaInfos().get(part).size() > 0);
      tell("earliest", () -> admin.listOffsets(Map.of(part, OffsetSpec.earliest())).partitionResult(part).get().offset());
      tell("latest", () -> admin.listOffsets(Map.of(part, OffsetSpec.latest())).partitionResult(part).get().offset());
      tell("groups", () -> admin.listConsumerGroups().all().get().stream().map(each -> each.groupId()).toList());
      tell("group", () -> admin.describeConsumerGroups(List.of(group)).all().get().get(group).groupState());
      tell("offsets", () -> admin.listConsumerGroupOffsets(Map.of(group, new ListConsumerGroupOffsetsSpec()))
          .all().get().get(group).get(part).offset());
      tell("producers", () -> admin.describeProducers(List.of(part)).all().get().get(part).activeProducers().size());
      tell("rights", () -> admin.describeAcls(AclBindingFilter.ANY).values().get());
      tell("quotas", () -> admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get());
    }
  }

  static Map<String, org.apache.kafka.clients.admin.ConfigEntry> configs(Admin admin, ConfigResource of) throws Exception {
    var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
    var found = admin.describeConfigs(List.of(of), options).all().get().get(of).entries();
    return found.stream().collect(java.util.stream.Collectors.toMap(entry -> entry.name(), entry -> entry));
  }

  static void tell(String what, Callable<?> ask) throws Exception {
    try {
      System.out.println(what + ": " + ask.call());
    } catch (ExecutionException failure) {
      System.out.println(what + ": " + failure.getCause().getClass().getSimpleName());
    }
  }
}
