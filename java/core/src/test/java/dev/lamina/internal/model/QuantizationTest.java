package dev.lamina.internal.model;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class QuantizationTest {
    private static ModelConfig config(String quantization) {
        return ModelConfig.parse("config.json", quantization);
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "{}",
        "{'quantization_config': null}",
        "{'quantization_config': {'quant_method': 'mxfp4'}}",
        "{'quantization_config': {'quant_method': 'fp8', 'fmt': 'e4m3', 'weight_block_size': [128, 128]}}",
        "{'text_config': {'quantization_config': {'quant_method': 'fp8', 'weight_block_size': [128, 128]}}}"
    })
    void whatCanBeReadIsTaken(String text) {
        assertDoesNotThrow(() -> Quantization.check(config(text)));
    }

    @ParameterizedTest
    @CsvSource(delimiter = ';', value = {
        "{\"quant_method\": \"gptq\", \"bits\": 4}; gptq",
        "{\"quant_method\": \"compressed-tensors\"}; compressed-tensors",
        "{\"bits\": 4}; unnamed",
        "{\"quant_method\": \"fp8\"}; one scale for a tensor",
        "{\"quant_method\": \"fp8\", \"weight_block_size\": null}; one scale for a tensor",
        "{\"quant_method\": \"fp8\", \"weight_block_size\": [64, 128]}; 64 x 128,",
        "{\"quant_method\": \"fp8\", \"fmt\": \"e5m2\", \"weight_block_size\": [128, 128]}; e5m2"
    })
    void whatCannotBeReadIsNamed(String quantization, String named) {
        var part = "{\"quantization_config\": " + quantization + "}";
        for (var text : new String[] {part, "{\"text_config\": " + part + "}"}) {
            var config = config(text);
            var error = assertThrows(LaminaException.class, () -> Quantization.check(config));
            assertTrue(error.getMessage().contains(named), error.getMessage());
        }
    }

    @Test
    void itIsLookedAtBeforeAnyTensor() throws IOException {
        var folder = Path.of("src/test/resources/fixtures/qwen3");
        var text = Files.readString(folder.resolve("config.json")).strip();
        var config = config(text.substring(0, text.length() - 1)
                + ", \"quantization_config\": {\"quant_method\": \"awq\"}}");
        var error = assertThrows(LaminaException.class,
                () -> Architectures.program(config, Checkpoint.open(folder)));
        assertTrue(error.getMessage().contains("awq"), error.getMessage());
    }
}
