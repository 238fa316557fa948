package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.LaminaException;
import dev.lamina.Message;
import dev.lamina.internal.text.Fixtures;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TextToolsTest {
    private static final List<Message> QUESTION = List.of(Message.user("Hi"));

    @Test
    void aFamilyWithoutATemplateHasAFormat() {
        try (var tools = new TextTools(Fixtures.resource("older/qwen_tiktoken"))) {
            assertEquals(901, tools.encodeChat(QUESTION)[0]);
            assertEquals(Set.of(901, 902), tools.chatStopTokens());
            assertNotNull(tools.tokenizerOrNull());
        }
    }

    @Test
    void aTemplateComesFirst() {
        try (var tools = new TextTools(Path.of("src/test/resources/fixtures/chat_qwen2"))) {
            assertTrue(tools.encodeChat(QUESTION).length > 1);
            assertEquals(Set.of(), tools.chatStopTokens());
        }
    }

    @Test
    void withNeitherConversationsAreRefused() {
        try (var tools = new TextTools(Fixtures.resource("older/internlm2_spm_bpe"))) {
            assertEquals(Set.of(), tools.chatStopTokens());
            var message = assertThrows(LaminaException.class, () -> tools.encodeChat(QUESTION)).getMessage();
            assertTrue(message.contains("has no chat template"), message);
        }
    }

    @Test
    void withoutFilesThereAreOnlyIds(@TempDir Path folder) {
        try (var tools = new TextTools(folder)) {
            assertNull(tools.tokenizerOrNull());
            assertEquals(Set.of(), tools.chatStopTokens());
            assertTrue(assertThrows(LaminaException.class, tools::tokenizer).getMessage().contains("tokenizer.json"));
        }
    }
}
