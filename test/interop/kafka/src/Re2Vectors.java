import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.google.re2j.Pattern;
import com.google.re2j.PatternSyntaxException;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;

/**
 * What RE2/J, which Kafka's brokers match topics and transactional ids with, says of regular expressions:
 * which it refuses, and which texts the others match as a whole. The first are written by hand, the others
 * made of pieces from a seed.
 *
 * java -cp "$KAFKA_HOME/lib/*" test/interop/kafka/src/Re2Vectors.java > test/vectors/re2.json
 */
public class Re2Vectors {
    static final String[] texts = {
        "", "a", "b", "A", "ab", "abc", "aab", "abab", "aaa", "orders", "Orders", "orders-1", "orders-42", "orders.eu",
        "my_topic", "-", ".", "^a$", "a\nb", "\n", "\t", "é", "\uD83D\uDE00", "a b", "a|b", "(a)", "a{2}", "a]", "0",
        "12", "007", "_", "a.b", "x-y", "K", "a]b", "\\", "*",
    };
    static final String[] patterns = {
        "", "a", "ab", "a|b", "a|", "|a", "(a|b)*", "(ab)+", "a*", "a+", "a?", "a??", "a*?", "a+?", "a{2}", "a{2,}", "a{1,2}",
        "a{,2}", "a{2", "a{}", "{", "}", "a{0}", "a{1001}", "a{1000}", "a{2,1}", "(a{10}){10}", "a**", "a*+", "a+*", "a?{2}",
        "a{2}{3}", "*", "+a", "?", "(*)", "a|*", "(", ")", "a)", "(a", "()", "(|a)", "orders.*", "orders-[0-9]+", "orders-\\d+",
        "^orders$", "^a", "a$", "$", "^", "^^a$$", "a^", "$a", ".", "..", ".*", ".+", "(?s).", "(?s).*", "(?s:.)", "(?i)ORDERS",
        "(?i:o)rders", "(?i)[A-Z]+", "(?i)[^a]", "(?-i)a", "(?i)a(?-i)b", "((?i)A)b", "((?i)A)B", "(?i)k", "(?is).+", "(?z)a", "(?)",
        "(?:a)", "(?:a|b)+", "(?P<n>a)", "(?P<n>a", "(?P<>a)", "(?<n>a)", "(?=a)", "(?!a)", "(?<=a)b", "(?>a)", "[a-c]+", "[abc]", "[^a]",
        "[^a]+", "[]a]+", "[^]a]", "[a-]+", "[-a]+", "[a\\-z]+", "[a", "[", "[]", "[^]", "[z-a]", "[a-\\d]", "[\\d]+", "[\\w.-]+",
        "[\\D]+", "[[:alpha:]]+", "[[:^alpha:]]+", "[[:digit:][:upper:]]+", "[[:nope:]]", "[[:alnum:]_]+", "[[:punct:]]+", "[[:space:]]",
        "[[:word:]]+", "[[:xdigit:]]+", "[[:lower:]]+", "[[:print:]]+", "[[:graph:]]+", "[[:cntrl:]]", "[[:blank:]]", "[[:ascii:]]+",
        "[.]", "[*]", "[\\n]", "[a&&b]", "\\d+", "\\D+", "\\w+", "\\W+", "\\s", "\\S+", "\\.", "\\\\", "\\*", "\\-", "\\_", "\\a", "\\n",
        "\\t", "\\x41", "\\x{41}", "\\x{1F600}", "\\x{110000}", "\\x4", "\\x{}", "\\0", "\\141", "\\1", "\\8", "\\q", "\\é", "\\", "\\Qa.b\\E",
        "\\Qa|b", "\\Qab\\E*", "\\Q\\E", "\\E", "\\Aa\\z", "\\Z", "\\bab\\b", "a\\Bb", "\\b", "\\B", "a\\b.b", "é", "\\xe9", "a b", "a\nb",
        "my[_-]topic", "(orders|my)[-_.].*", "([a-z]+-?)+[0-9]*", "(a*)*", "(a*)+", "(a?){3}", "(a|aa)+", "((a*)*)*b", "x{0,3}-y?",
    };
    static final String[] atoms = {
        "a", "b", "o", "r", ".", "\\d", "\\w", "\\s", "[a-c]", "[^a]", "(a)", "(?:ab)", "(a|b)", "(ab|)", "^", "$", "-", "\\.", "[[:alpha:]]",
        "\\b", "\\B", "(?i)a", "(?i:B)",
    };
    static final String[] suffixes = {"", "", "", "*", "+", "?", "{2}", "{1,2}", "{0,}", "*?"};

    public static void main(String[] ignored) throws Exception {
        List<String> all = new ArrayList<>(List.of(patterns));
        Random random = new Random(7);
        for (int i = 0; i < 200; i++) {
            StringBuilder pattern = new StringBuilder();
            for (int left = 1 + random.nextInt(5); left > 0; left--) {
                pattern.append(atoms[random.nextInt(atoms.length)]).append(suffixes[random.nextInt(suffixes.length)]);
                if (left > 1 && random.nextInt(5) == 0) pattern.append('|');
            }
            all.add(pattern.toString());
        }
        ObjectMapper json = new ObjectMapper();
        ArrayNode vectors = json.createArrayNode();
        for (String source : all.stream().distinct().toList()) {
            ObjectNode vector = vectors.addObject().put("pattern", source);
            try {
                Pattern pattern = Pattern.compile(source);
                ArrayNode matched = vector.putArray("matches");
                for (int i = 0; i < texts.length; i++) if (pattern.matcher(texts[i]).matches()) matched.add(i);
            } catch (PatternSyntaxException e) {
                vector.putNull("matches");
            }
        }
        ObjectNode file = json.createObjectNode().put("source", "Re2Vectors.java with re2j 1.8");
        ArrayNode listed = file.putArray("texts");
        for (String text : texts) listed.add(text);
        file.set("vectors", vectors);
        System.out.println(json.writeValueAsString(file));
    }
}
