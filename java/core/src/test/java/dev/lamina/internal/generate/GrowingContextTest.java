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
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

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

    /** The tokens of the transformers library with its cache: each key stays as it was rotated first. */
    @Test
    void dynamicRopeStretchesWithEachToken() throws IOException {
        copyWithDynamicRope("yi_llama_gqa");
        assertEquals(List.of(85, 252, 131, 283, 291, 118, 258, 179, 256, 5, 265, 243, 173, 112),
                generate(temporary, 20, 19, 333));
        assertEquals(List.of(132, 68, 144, 200, 241, 187, 1, 84, 238, 305, 324, 98, 85, 252),
                generate(temporary, 40, 33, 333));
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

    private static List<Integer> generate(Path model, int length, int stride, int vocabulary) {
        var ids = IntStream.range(0, length).map(i -> 3 + (i * stride + stride) % (vocabulary - 5)).toArray();
        var options = GenerationOptions.builder().greedy().repetitionPenalty(1.0).ignoreEos(true).maxTokens(14).build();
        try (var opened = LanguageModel.open(model.toString(), ModelOptions.defaults())) {
            return opened.generate(Prompt.ids(ids), options).ids();
        }
    }
}
