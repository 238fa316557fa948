package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.lamina.ModelOptions;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.model.Architectures;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.model.UnusedTensors;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Of a model that sees images too, the language model computes what it computes alone. */
class TextModelTest {
    private static final byte[] IMAGE_WEIGHTS = new byte[64];

    @TempDir
    Path temporary;

    @ParameterizedTest
    @ValueSource(strings = {"language_model.model.", "model.language_model."})
    void itIsFoundBesideAnEncoderOfImages(String prefix) throws IOException {
        var fixture = Fixture.find(List.of("gemma3_text")).getFirst();
        writeConfig(fixture.directory());
        writeWeights(fixture.directory().resolve("model.safetensors"), prefix);

        var prompt = fixture.prompts().getLast().ids();
        assertArrayEquals(ModesTest.logits(fixture.directory(), ModelOptions.defaults(), prompt),
                ModesTest.logits(temporary, ModelOptions.defaults(), prompt));
        var config = ModelConfig.load(temporary);
        assertEquals(Set.of(1, 106), GenerationDefaults.load(temporary, config).stopTokens());
        var checkpoint = Checkpoint.open(temporary);
        assertEquals(new UnusedTensors(1, IMAGE_WEIGHTS.length, List.of("vision_tower")),
                UnusedTensors.of(Architectures.program(config, checkpoint), checkpoint));
    }

    private void writeConfig(Path source) throws IOException {
        var text = JsonParser.parseString(Files.readString(source.resolve("config.json"))).getAsJsonObject();
        text.remove("architectures");
        var config = new JsonObject();
        config.add("architectures", JsonParser.parseString("[\"Gemma3ForConditionalGeneration\"]"));
        config.addProperty("model_type", "gemma3");
        config.add("text_config", text);
        config.add("vision_config", new JsonObject());
        Files.writeString(temporary.resolve("config.json"), config.toString());
    }

    /** A file of safetensors with other names, and one tensor more. */
    private void writeWeights(Path source, String prefix) throws IOException {
        var file = ByteBuffer.wrap(Files.readAllBytes(source)).order(ByteOrder.LITTLE_ENDIAN);
        var json = new byte[Math.toIntExact(file.getLong())];
        file.get(json);
        var data = new byte[file.remaining()];
        file.get(data);
        var header = JsonParser.parseString(new String(json, StandardCharsets.UTF_8)).getAsJsonObject();
        var renamed = new JsonObject();
        header.entrySet().forEach(each ->
                renamed.add(each.getKey().replaceFirst("^model\\.", prefix), each.getValue()));
        renamed.add("vision_tower.embeddings.weight",
                JsonParser.parseString("{\"dtype\": \"F32\", \"shape\": [4, 4], \"data_offsets\": [%d, %d]}"
                        .formatted(data.length, data.length + IMAGE_WEIGHTS.length)));
        var bytes = renamed.toString().getBytes(StandardCharsets.UTF_8);
        Files.write(temporary.resolve("model.safetensors"),
                ByteBuffer.allocate(Long.BYTES + bytes.length + data.length + IMAGE_WEIGHTS.length)
                        .order(ByteOrder.LITTLE_ENDIAN)
                        .putLong(bytes.length).put(bytes).put(data).put(IMAGE_WEIGHTS).array());
    }
}
