import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.util.Base64;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

/**
 * Requests and responses of the wire protocol as Kafka's own classes write them, in every version: each
 * with all that it can hold, and each with nothing that it need not hold. The values come from a counter,
 * so that no two fields of a message are equal.
 *
 * java -cp "$KAFKA_HOME/lib/*" test/interop/kafka/src/WireVectors.java > test/vectors/wire.json
 */
public class WireVectors {
    static final ObjectMapper json = new ObjectMapper().configure(JsonParser.Feature.ALLOW_COMMENTS, true);
    static final String[] apis = {
        "Produce", "Fetch", "ListOffsets", "Metadata", "OffsetCommit", "OffsetFetch", "FindCoordinator",
        "JoinGroup", "Heartbeat", "LeaveGroup", "SyncGroup", "DescribeGroups", "ListGroups", "SaslHandshake",
        "ApiVersions", "CreateTopics", "DeleteTopics", "DeleteRecords", "InitProducerId",
        "OffsetForLeaderEpoch", "AddPartitionsToTxn", "AddOffsetsToTxn", "EndTxn", "TxnOffsetCommit",
        "DescribeConfigs", "AlterConfigs", "DescribeLogDirs", "SaslAuthenticate", "CreatePartitions",
        "DeleteGroups", "IncrementalAlterConfigs", "OffsetDelete", "DescribeCluster", "DescribeProducers",
        "DescribeTransactions", "ListTransactions", "ConsumerGroupHeartbeat", "ConsumerGroupDescribe",
        "DescribeTopicPartitions",
    };

    final int version;
    final boolean full;
    final Map<String, JsonNode> common = new HashMap<>();
    int counter = 1;

    WireVectors(JsonNode message, int version, boolean full) {
        this.version = version;
        this.full = full;
        for (JsonNode struct : message.path("commonStructs")) common.put(struct.get("name").asText(), struct.get("fields"));
    }

    static int[] range(String text) {
        if (text.equals("none")) return new int[] {1, 0};
        if (text.endsWith("+")) return new int[] {Integer.parseInt(text.substring(0, text.length() - 1)), 32767};
        String[] ends = text.split("-");
        return new int[] {Integer.parseInt(ends[0]), Integer.parseInt(ends[ends.length - 1])};
    }

    boolean isIn(JsonNode field, String name) {
        if (!field.has(name)) return false;
        int[] range = range(field.get(name).asText());
        return version >= range[0] && version <= range[1];
    }

    ObjectNode struct(JsonNode fields) {
        ObjectNode struct = json.createObjectNode();
        for (JsonNode field : fields) {
            boolean isTagged = isIn(field, "taggedVersions");
            if (!isIn(field, field.has("versions") ? "versions" : "taggedVersions")) continue;
            if (!full && isTagged) continue;
            String name = field.get("name").asText();
            struct.set(Character.toLowerCase(name.charAt(0)) + name.substring(1), value(field, isTagged));
        }
        return struct;
    }

    JsonNode value(JsonNode field, boolean isTagged) {
        if (!full && isIn(field, "nullableVersions")) return json.nullNode();
        String type = field.get("type").asText();
        if (!type.startsWith("[]")) return one(type, field);
        ArrayNode array = json.createArrayNode();
        if (full) array.add(one(type.substring(2), field));
        return array;
    }

    JsonNode one(String type, JsonNode field) {
        int n = counter++;
        var nodes = json.getNodeFactory();
        switch (type) {
            case "bool": return nodes.booleanNode(!field.path("default").asText().equals("true"));
            case "int8": return nodes.numberNode(n % 100 + 1);
            case "int16": return nodes.numberNode(1000 + n);
            case "int32": return nodes.numberNode(100_000_000 + n);
            case "int64": return nodes.numberNode((1L << 45) + n);
            case "string": return nodes.textNode("s" + n + "é");
            case "uuid": return nodes.textNode(new org.apache.kafka.common.Uuid(n, -n).toString());
            case "bytes":
            case "records": return nodes.binaryNode(("b" + n + "x".repeat(n % 3 * 100)).getBytes());
            default: return struct(common.getOrDefault(type, field.path("fields")));
        }
    }

    public static void main(String[] ignored) throws Exception {
        ArrayNode vectors = json.createArrayNode();
        for (String api : apis) {
            for (String kind : new String[] {"Request", "Response"}) {
                String name = api + kind;
                JsonNode message;
                try (InputStream in = Message.class.getResourceAsStream("/common/message/" + name + ".json")) {
                    message = json.readTree(in);
                }
                int[] versions = range(message.get("validVersions").asText());
                Class<?> converter = Class.forName("org.apache.kafka.common.message." + name + "DataJsonConverter");
                for (int version = versions[0]; version <= versions[1]; version++) {
                    for (boolean full : new boolean[] {true, false}) {
                        ObjectNode fields = new WireVectors(message, version, full).struct(message.get("fields"));
                        Message data = (Message) converter.getMethod("read", JsonNode.class, short.class)
                            .invoke(null, fields, (short) version);
                        ObjectSerializationCache cache = new ObjectSerializationCache();
                        ByteBuffer bytes = ByteBuffer.allocate(data.size(cache, (short) version));
                        data.write(new ByteBufferAccessor(bytes), cache, (short) version);
                        ObjectNode vector = vectors.addObject();
                        vector.put("api", api).put("kind", kind.toLowerCase()).put("version", version);
                        vector.put("hex", HexFormat.of().formatHex(bytes.array()));
                        if (full) vector.set("fields", fields);
                    }
                }
            }
        }
        ObjectNode file = json.createObjectNode();
        file.put("source", "WireVectors.java with kafka-clients "
            + org.apache.kafka.common.utils.AppInfoParser.getVersion());
        file.set("vectors", vectors);
        StringBuilder text = new StringBuilder("{\"source\":" + file.get("source") + ",\"vectors\":[\n");
        for (int i = 0; i < vectors.size(); i++) text.append(vectors.get(i)).append(i + 1 < vectors.size() ? ",\n" : "\n");
        System.out.print(text.append("]}\n"));
    }
}
