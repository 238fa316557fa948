package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.FinishReason;
import dev.lamina.GenerationOptions;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import java.io.IOException;
import java.util.List;
import org.junit.jupiter.api.TestReporter;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Every family gives the logits and the greedy tokens of its published code. */
class GoldenTest {
    private static final double GAP = 0.01;

    static List<Fixture> fixtures() throws IOException {
        return Fixture.find(List.of(
                "llama2_mha", "llama31_gqa", "llama32_tied", "llama_rope_linear_bias", "yi_llama_gqa", "mistral_swa",
                "mistral_nowin_headdim", "qwen2_tied", "qwen2_untied", "qwen2_yarn", "qwen3", "qwen_v1",
                "qwen_v1_ntk_logn", "chatglm2", "chatglm3", "chatglm_glm4_rope_ratio", "baichuan_7b",
                "baichuan_13b_alibi", "baichuan2_7b_normhead", "baichuan2_13b_alibi_normhead", "internlm", "internlm2",
                "internlm2_dynamic_cfg", "gemma", "gemma2", "gemma3_text", "phi2", "phi3_swa", "phi3_longrope",
                "phi4_mini", "glm", "glm4", "cohere", "cohere2", "olmo2", "granite", "smollm3", "stablelm",
                "starcoder2", "gemma3_images", "phi_head_norms", "cohere_head_norms", "olmo", "olmo3", "granite_biases",
                "smollm3_window", "stablelm_parallel", "internlm2_linear", "chatglm_grouped", "chatglm_layer_norms",
                "e2e_llama2", "e2e_llama31", "e2e_mistral", "e2e_qwen25", "e2e_qwen3", "e2e_qwen_v1", "e2e_chatglm2",
                "e2e_chatglm3", "e2e_baichuan2_7b", "e2e_internlm2", "e2e_gemma2", "phi3_window",
                "glm_tied", "baichuan_rope",
                "mixtral",
                "qwen2_moe",
                "qwen3_moe",
                "deepseek_v2_full", "deepseek_v2_lite", "deepseek_v3", "deepseek_v3_yarn", "deepseek_v3_fp8",
                "deepseek_v3_heads",
                "glm4_moe",
                "gpt_oss",
                "llama4_text",
                "qwen3_next", "qwen3_5_text",
                "qwen3_fp8"));
    }

    /** How the models are opened. */
    ModelOptions options() {
        return ModelOptions.defaults();
    }

    @ParameterizedTest
    @MethodSource("fixtures")
    void logitsAreWithinTolerance(Fixture fixture, TestReporter reporter) throws IOException {
        double largest = 0;
        try (var model = LanguageModel.open(fixture.directory().toString(), options())) {
            for (var prompt : fixture.prompts()) {
                var expected = fixture.logits(prompt.index());
                int skipped = prompt.ids().length - expected.length;
                var worst = new double[1];
                var seen = new long[1];
                model.logits(prompt.ids(), (firstRow, rows, firstColumn, columns, values) -> {
                    for (int row = Math.max(0, skipped - firstRow); row < rows; row++) {
                        for (int column = 0; column < columns; column++) {
                            double difference = values.get(row * columns + column)
                                    - expected[firstRow + row - skipped][firstColumn + column];
                            worst[0] = Math.max(worst[0],
                                    Double.isNaN(difference) ? Double.MAX_VALUE : Math.abs(difference));
                            seen[0]++;
                        }
                    }
                });
                assertEquals((long) expected.length * expected[0].length, seen[0]);
                assertTrue(worst[0] <= fixture.logitsTolerance(),
                        "prompt " + prompt.index() + ": logits differ by " + worst[0]);
                largest = Math.max(largest, worst[0]);
            }
        }
        reporter.publishEntry("largest difference of a logit of " + fixture, "%.1e".formatted(largest));
    }

    @ParameterizedTest
    @MethodSource("fixtures")
    void greedyTokensAreEqual(Fixture fixture) throws IOException {
        try (var model = LanguageModel.open(fixture.directory().toString(), options())) {
            for (var prompt : fixture.prompts()) {
                var expected = prompt.greedyIds();
                var options = GenerationOptions.builder().maxTokens(expected.length).greedy()
                        .repetitionPenalty(1.0).ignoreEos(true).build();
                var answer = model.generate(Prompt.ids(prompt.ids()), options);
                assertEquals(FinishReason.LENGTH, answer.finishReason());
                for (int i = 0; i < expected.length && prompt.greedyGap()[i] >= GAP; i++) {
                    assertEquals(expected[i], answer.ids().get(i), "prompt " + prompt.index() + ", token " + i);
                }
            }
        }
    }
}
