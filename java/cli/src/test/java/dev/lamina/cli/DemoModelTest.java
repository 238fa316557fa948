package dev.lamina.cli;

import static java.util.stream.Collectors.counting;
import static java.util.stream.Collectors.groupingBy;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonParser;
import dev.lamina.GenerationOptions;
import dev.lamina.LanguageModel;
import dev.lamina.Message;
import dev.lamina.Prompt;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.math.BigInteger;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Set;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The model that comes with the command line answers what it was never trained on. */
class DemoModelTest {
    private static final double LEAST_EXACT = 0.95;
    private static final long MOST_BYTES = 6_000_000;
    private static final int BATCH = 64;
    private static final Pattern NUMBER = Pattern.compile("[0-9]+");

    /** A question of the file of held-out ones. */
    private record HeldOut(String kind, String question, String answer) {}

    @TempDir
    private static Path folder;

    private static List<HeldOut> heldOut;

    @BeforeAll
    static void read() throws IOException {
        DemoCommand.unpack(folder.resolve("model"));
        var file = Objects.requireNonNull(DemoModelTest.class.getResourceAsStream("demo/held-out.jsonl"));
        try (var lines = new BufferedReader(new InputStreamReader(file, StandardCharsets.UTF_8))) {
            heldOut = lines.lines().map(line -> {
                var object = JsonParser.parseString(line).getAsJsonObject();
                return new HeldOut(object.get("kind").getAsString(), object.get("question").getAsString(),
                        object.get("answer").getAsString());
            }).toList();
        }
    }

    @Test
    void thereAreEnoughQuestions() {
        var kinds = heldOut.stream().collect(groupingBy(HeldOut::kind, counting()));
        assertTrue(heldOut.size() >= 1000, () -> heldOut.size() + " questions");
        assertTrue(kinds.get("sum") >= 500, kinds::toString);
        assertTrue(kinds.get("fact") >= 300, kinds::toString);
        assertEquals(heldOut.size(), new HashSet<>(heldOut.stream().map(HeldOut::question).toList()).size());
        assertTrue(heldOut.stream().filter(each -> each.kind.equals("sum"))
                .flatMap(each -> numbers(each.question).stream())
                .anyMatch(number -> number.intValueExact() >= 90), "two-digit numbers up to 99");
    }

    /** Which side of the split a question is on follows from the question alone: src/demo/README.md. */
    @Test
    void allAreOnTheirSideOfTheSplit() throws NoSuchAlgorithmException {
        for (var each : heldOut) {
            var digest = MessageDigest.getInstance("SHA-256")
                    .digest(key(each.question).getBytes(StandardCharsets.UTF_8));
            assertTrue((digest[0] & 0xff) < 32, each.question);
        }
    }

    @Test
    void sumsAreRight() {
        for (var each : heldOut) {
            if (each.kind.equals("sum")) {
                var numbers = numbers(each.question);
                assertEquals(2, numbers.size(), each.question);
                assertTrue(numbers(each.answer).getLast().equals(numbers.get(0).add(numbers.get(1))), each.answer);
            }
        }
    }

    private static List<BigInteger> numbers(String text) {
        return NUMBER.matcher(text).results().map(MatchResult::group).map(BigInteger::new).toList();
    }

    private static String key(String question) {
        var numbers = numbers(question).stream().sorted().toList();
        return numbers.size() == 2
                ? numbers.get(0) + "+" + numbers.get(1)
                : question.toLowerCase(Locale.ROOT).replaceAll("[^a-z0-9]+", " ").strip();
    }

    @Test
    void itAnswersThem() {
        var options = GenerationOptions.builder().greedy().maxTokens(64).build();
        var wrong = new ArrayList<String>();
        try (var model = LanguageModel.open(folder.resolve("model").toString())) {
            for (int first = 0; first < heldOut.size(); first += BATCH) {
                var batch = heldOut.subList(first, Math.min(first + BATCH, heldOut.size()));
                var prompts = batch.stream().map(each -> Prompt.chat(Message.user(each.question))).toList();
                var answers = model.generate(prompts, options);
                for (int i = 0; i < batch.size(); i++) {
                    if (!answers.get(i).text().equals(batch.get(i).answer)) {
                        wrong.add(batch.get(i).question + " -> " + answers.get(i).text());
                    }
                }
            }
        }
        double exact = 1 - (double) wrong.size() / heldOut.size();
        System.out.printf(Locale.ROOT, "The demo model answers %.1f %% of %d held-out questions.%n", 100 * exact,
                heldOut.size());
        assertTrue(exact >= LEAST_EXACT, () -> exact + " exact; wrong: " + wrong);
    }

    @Test
    void itIsSmallAndListed() throws IOException, URISyntaxException {
        var resources = Path.of(Objects.requireNonNull(DemoCommand.class.getResource("demo/config.json")).toURI())
                .getParent();
        try (var files = Files.list(resources)) {
            assertEquals(Set.copyOf(DemoCommand.FILES),
                    files.map(file -> file.getFileName().toString()).collect(Collectors.toSet()));
        }
        long bytes = 0;
        for (var name : DemoCommand.FILES) {
            bytes += Files.size(resources.resolve(name));
        }
        assertTrue(bytes <= MOST_BYTES, bytes + " bytes");
    }

    @Test
    void theDemoRuns() {
        var result = Cli.run("demo").succeeded();
        assertEquals("", result.err());
        for (var expected : List.of("47 + 38 = 85", "Paris", "fox", "peak memory", "read ")) {
            assertTrue(result.out().contains(expected), result.out());
        }
    }
}
