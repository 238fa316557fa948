package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.gson.JsonParser;
import dev.lamina.GenerationOptions;
import dev.lamina.LanguageModel;
import dev.lamina.Message;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Ropes that depend on the length of a sequence, while that grows beyond what the model was trained for. */
class GrowingContextTest {
    private static final Path FIXTURES = Path.of("src/test/resources/fixtures");

    @TempDir
    Path temporary;

    /** The tokens of full recomputation: all before 64 positions have short factors, all with more have long ones. */
    @Test
    void longRopeChangesWhenTheSequenceIsLong() {
        assertEquals(List.of(174, 89, 21, 173, 33, 94, 105, 59, 244, 84, 119, 304, 306, 38),
                generate(FIXTURES.resolve("phi4_mini"), 58, 116, 326));
    }

    /** The tokens of the transformers library without its cache. */
    @Test
    void dynamicRopeStretchesWithEachToken() throws IOException {
        copyWithDynamicRope("yi_llama_gqa");
        assertEquals(List.of(85, 252, 131, 283, 291, 118, 258, 179, 256, 5, 265, 243, 200, 5),
                generate(temporary, 20, 19, 333));
        assertEquals(List.of(132, 68, 144, 200, 241, 187, 1, 84, 38, 233, 303, 224, 178, 44),
                generate(temporary, 40, 33, 333));
    }

    @ParameterizedTest
    @CsvSource({"phi4_mini, 58, 326", "qwen_v1_ntk_logn, 60, 300", "yi_llama_gqa, 20, 333"})
    void eachTokenIsWhatFollowsAllBefore(String fixture, int length, int vocabulary) throws IOException {
        var directory = FIXTURES.resolve(fixture);
        if (fixture.equals("yi_llama_gqa")) {
            copyWithDynamicRope(fixture);
            directory = temporary;
        }
        try (var model = LanguageModel.open(directory.toString(), ModelOptions.defaults())) {
            int[] ids = ids(length, 19, vocabulary);
            for (int id : model.generate(Prompt.ids(ids), greedy(14)).ids()) {
                assertEquals(List.of(id), model.generate(Prompt.ids(ids), greedy(1)).ids(), ids.length + " tokens");
                ids = Arrays.copyOf(ids, ids.length + 1);
                ids[ids.length - 1] = id;
            }
        }
    }

    /** Past 512 tokens none is computed anew: one sweep for each. */
    @Test
    void longSequencesKeepTheKeysThatTheyHave() throws IOException {
        copyWithDynamicRope("yi_llama_gqa");
        try (var model = LanguageModel.open(temporary.toString(), ModelOptions.defaults())) {
            var answer = model.generate(Prompt.ids(ids(505, 33, 333)), greedy(20));
            assertEquals(20, answer.stats().sweeps());
            answer = model.generate(Prompt.ids(ids(520, 33, 333)), greedy(10));
            assertEquals(List.of(241, 157, 92, 238, 96, 60, 77, 87, 227, 311), answer.ids());
            assertEquals(2 + 9, answer.stats().sweeps());
        }
    }

    /** What it cached while it grew, a conversation does not go on with. */
    @Test
    void conversationsAnswerAsIfTheyBeganAnew() throws IOException {
        copyWithDynamicRope("chat_qwen2");
        var options = GenerationOptions.builder().greedy().maxTokens(14).build();
        try (var model = LanguageModel.open(temporary.toString(), ModelOptions.defaults());
                var chat = model.chat(List.of(), options)) {
            chat.send("Tell me about the sea.", text -> { });
            var answer = chat.send("And about the mountains?", text -> { });
            var history = chat.messages().subList(0, 3).toArray(Message[]::new);
            assertEquals(model.generate(Prompt.chat(history), options).ids(), answer.ids());
        }
    }

    private void copyWithDynamicRope(String fixture) throws IOException {
        try (var files = Files.list(FIXTURES.resolve(fixture))) {
            for (var file : files.toList()) {
                Files.copy(file, temporary.resolve(file.getFileName()));
            }
        }
        var file = temporary.resolve("config.json");
        var config = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
        config.add("rope_scaling", JsonParser.parseString("{'rope_type': 'dynamic', 'factor': 4}"));
        config.addProperty("max_position_embeddings", 24);
        Files.writeString(file, config.toString());
    }

    private static int[] ids(int length, int stride, int vocabulary) {
        return IntStream.range(0, length).map(i -> 3 + (i * stride + stride) % (vocabulary - 5)).toArray();
    }

    private static GenerationOptions greedy(int tokens) {
        return GenerationOptions.builder().greedy().repetitionPenalty(1.0).ignoreEos(true).maxTokens(tokens).build();
    }

    private static List<Integer> generate(Path model, int length, int stride, int vocabulary) {
        try (var opened = LanguageModel.open(model.toString(), ModelOptions.defaults())) {
            return opened.generate(Prompt.ids(ids(length, stride, vocabulary)), greedy(14)).ids();
        }
    }
}
