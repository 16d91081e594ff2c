import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

/**
 * Prints messages as Kafka's own classes write them. Of each argument 'FetchRequest:4:12', in each of those
 * versions, two: one with every field filled, one with all that may be null or empty. A line each:
 * message, version, bytes in hex, what they say in JSON.
 */
class WireMessages {
  static final ObjectMapper MAPPER =
      new ObjectMapper().configure(JsonParser.Feature.ALLOW_COMMENTS, true);

  public static void main(String[] args) throws Exception {
    for (String arg : args) {
      String[] parts = arg.split(":");
      for (short version = Short.parseShort(parts[1]); version <= Short.parseShort(parts[2]); version++) {
        for (boolean isFull : new boolean[] {true, false}) print(parts[0], version, isFull);
      }
    }
  }

  static void print(String name, short version, boolean isFull) throws Exception {
    JsonNode schema;
    try (InputStream in =
        WireMessages.class.getClassLoader().getResourceAsStream("common/message/" + name + ".json")) {
      schema = MAPPER.readTree(in);
    }
    Map<String, JsonNode> structs = new HashMap<>();
    for (JsonNode struct : schema.path("commonStructs")) {
      structs.put(struct.get("name").asText(), struct.get("fields"));
    }
    JsonNode json = new Sample(structs, version, isFull).struct(schema.get("fields"));
    String type = name.endsWith("Request") || name.endsWith("Response") ? name + "Data" : name;
    Class<?> converter = Class.forName("org.apache.kafka.common.message." + type + "JsonConverter");
    Message message =
        (Message) converter.getMethod("read", JsonNode.class, short.class).invoke(null, json, version);
    ObjectSerializationCache cache = new ObjectSerializationCache();
    ByteBuffer bytes = ByteBuffer.allocate(message.size(cache, version));
    message.write(new ByteBufferAccessor(bytes), cache, version);
    String hex = HexFormat.of().formatHex(bytes.array());
    System.out.println(name + "\t" + version + "\t" + hex + "\t" + MAPPER.writeValueAsString(json));
  }

  /** Makes values, each other than the one before. */
  static class Sample {
    final Map<String, JsonNode> structs;
    final short version;
    final boolean isFull;
    int count = 0;

    Sample(Map<String, JsonNode> structs, short version, boolean isFull) {
      this.structs = structs;
      this.version = version;
      this.isFull = isFull;
    }

    boolean covers(JsonNode field, String name) {
      String range = field.path(name).asText("none");
      if (range.equals("none")) return false;
      if (range.endsWith("+")) return version >= Short.parseShort(range.substring(0, range.length() - 1));
      String[] ends = range.split("-");
      return version >= Short.parseShort(ends[0]) && version <= Short.parseShort(ends[ends.length - 1]);
    }

    ObjectNode struct(JsonNode fields) {
      ObjectNode node = MAPPER.createObjectNode();
      for (JsonNode field : fields) {
        if (!covers(field, "versions")) continue;
        String name = field.get("name").asText();
        String key = name.substring(0, 1).toLowerCase() + name.substring(1);
        if (!isFull && covers(field, "nullableVersions")) node.putNull(key);
        else node.set(key, value(field, field.get("type").asText()));
      }
      return node;
    }

    JsonNode value(JsonNode field, String type) {
      count++;
      if (type.startsWith("[]")) {
        ArrayNode array = MAPPER.createArrayNode();
        for (int i = 0; i < (isFull ? 2 : 0); i++) array.add(value(field, type.substring(2)));
        return array;
      }
      switch (type) {
        case "bool":
          return MAPPER.getNodeFactory().booleanNode(isFull);
        case "int8":
          return MAPPER.getNodeFactory().numberNode(isFull ? count % 100 : -1);
        case "int16":
        case "uint16":
          return MAPPER.getNodeFactory().numberNode(isFull ? 256 + count : 0);
        case "int32":
          return MAPPER.getNodeFactory().numberNode(isFull ? 65_536 + count : -1);
        case "int64":
          return MAPPER.getNodeFactory().numberNode(isFull ? 4_294_967_296L + count : -1L);
        case "float64":
          return MAPPER.getNodeFactory().numberNode(count + 0.5);
        case "uuid":
          return MAPPER.getNodeFactory().textNode(isFull ? "B".repeat(count % 21 + 1) + "A".repeat(21 - count % 21) : "A".repeat(22));
        case "string":
          return MAPPER.getNodeFactory().textNode(isFull ? "text " + count : "");
        case "bytes":
          return MAPPER.getNodeFactory().binaryNode(isFull ? new byte[] {1, 2, (byte) count} : new byte[0]);
        case "records":
          return MAPPER.getNodeFactory().nullNode();
        default:
          return struct(field.has("fields") ? field.get("fields") : structs.get(type));
      }
    }
  }
}
