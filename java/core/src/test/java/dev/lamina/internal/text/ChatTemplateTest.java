package dev.lamina.internal.text;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.Gson;
import dev.lamina.LaminaException;
import dev.lamina.Message;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ChatTemplateTest {
    @TempDir
    private Path folder;

    private static Clock clock(String time) {
        return Clock.fixed(LocalDateTime.parse(time).toInstant(ZoneOffset.UTC), ZoneOffset.UTC);
    }

    /** Renders a case of a golden file; returns null where the template refuses it. */
    private static String render(ChatTemplate template, Map<String, Object> variables, Clock clock) {
        Map<String, Object> others = new HashMap<>(variables);
        others.keySet().removeAll(List.of("name", "messages", "rendered", "error", "add_generation_prompt"));
        try {
            return template.render(
                    Fixtures.maps(variables.get("messages")),
                    (Boolean) variables.get("add_generation_prompt"),
                    others,
                    clock);
        } catch (LaminaException e) {
            assertFalse(e.getMessage().contains("\n"), e.getMessage());
            return null;
        }
    }

    private ChatTemplate template(Path source, Map<String, Object> tokens) throws IOException {
        Files.writeString(folder.resolve("chat_template.jinja"), Files.readString(source));
        Files.writeString(folder.resolve("tokenizer_config.json"), new Gson().toJson(tokens));
        return assertNotNullTemplate(ChatTemplate.load(folder));
    }

    private static ChatTemplate assertNotNullTemplate(ChatTemplate template) {
        assertNotNull(template);
        return template;
    }

    @Test
    @SuppressWarnings("unchecked")
    void ownTemplatesRenderAsTransformers() throws IOException {
        Map<String, Object> file = Fixtures.readJson(Fixtures.resource("jinja/templates.json"));
        List<Map<String, Object>> cases = Fixtures.maps(file.get("cases"));
        assertEquals(32, cases.size());
        for (Map<String, Object> one : cases) {
            ChatTemplate template = template(
                    Fixtures.resource("templates/" + one.get("template")), (Map<String, Object>) file.get("tokens"));
            Map<String, Object> variables = (Map<String, Object>) one.get("variables");
            String rendered = render(template, variables, clock((String) file.get("now")));
            assertEquals(one.get("rendered"), rendered, one.get("template") + " " + one.get("name"));
        }
    }

    @Test
    void publishedTemplatesRenderAsTransformers() throws IOException {
        Path shared = Fixtures.shared("chat_templates");
        assumeTrue(shared != null, "no shared fixtures here");
        int count = 0;
        Map<String, Object> golden = Fixtures.readJson(shared.resolve("golden.json"));
        for (Map<String, Object> entry : Fixtures.maps(golden.get("templates"))) {
            Map<String, Object> tokens = new HashMap<>();
            tokens.put("bos_token", entry.get("bos_token"));
            tokens.put("eos_token", entry.get("eos_token"));
            ChatTemplate template = template(shared.resolve((String) entry.get("template")), tokens);
            Clock clock = clock(entry.getOrDefault("rendered_on", "2026-01-01") + "T12:00:00");
            for (Map<String, Object> one : Fixtures.maps(entry.get("cases"))) {
                assertEquals(one.get("rendered"), render(template, one, clock),
                        entry.get("template") + " " + one.get("name"));
                count++;
            }
        }
        assertEquals(240, count);
    }

    /** Conversations of whole model folders: template, special tokens and tokenizer together. */
    @Test
    void publishedTokenizersRenderAndEncodeConversations() {
        Path shared = Fixtures.shared("tokenizers");
        assumeTrue(shared != null, "no shared fixtures here");
        int count = 0;
        for (Path model : Fixtures.children(shared)) {
            Map<String, Object> golden = Fixtures.readJson(model.resolve("golden.json"));
            List<Map<String, Object>> chats = Fixtures.maps(golden.get("chat"));
            ChatTemplate template = ChatTemplate.load(model);
            if (template == null) {
                continue;
            }
            Map<Object, Object> idsByName = new HashMap<>();
            Fixtures.maps(golden.get("chat_ids")).forEach(one -> idsByName.put(one.get("name"), one.get("ids")));
            try (Tokenizer tokenizer = idsByName.isEmpty() ? null : Tokenizer.open(model)) {
                for (Map<String, Object> one : chats) {
                    String rendered = render(template, one, Clock.systemUTC());
                    assertEquals(one.get("rendered"), rendered, model + " " + one.get("name"));
                    if (tokenizer != null && rendered != null) {
                        assertEquals(
                                list(Fixtures.ids(idsByName.get(one.get("name")))),
                                list(tokenizer.encode(rendered, false)),
                                model + " " + one.get("name"));
                    }
                    count++;
                }
            }
        }
        assertTrue(count > 40, count + " cases");
    }

    private static List<Integer> list(int[] ids) {
        List<Integer> list = new ArrayList<>();
        for (int id : ids) {
            list.add(id);
        }
        return list;
    }

    @Test
    void templateOfTheConfiguration() throws IOException {
        assertNull(ChatTemplate.load(folder));
        Path config = folder.resolve("tokenizer_config.json");
        Files.writeString(config, "{\"bos_token\": {\"content\": \"<s>\"}, \"eos_token\": \"</s>\"}");
        assertNull(ChatTemplate.load(folder));
        Files.writeString(config, """
                {"bos_token": {"content": "<s>"}, "pad_token": null,
                 "additional_special_tokens": ["<a>", {"content": "<b>"}],
                 "extra_special_tokens": {"image_token": "<image>"},
                 "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token is defined }}\
                {{ additional_special_tokens }}{{ image_token }}{{ tools is none }}"}""");
        Files.writeString(
                folder.resolve("special_tokens_map.json"), "{\"eos_token\": \"</s>\", \"bos_token\": \"no\"}");
        ChatTemplate template = assertNotNullTemplate(ChatTemplate.load(folder));
        assertEquals("<s>hi</s>False['<a>', '<b>']<image>True",
                template.render(List.of(Message.user("hi")), true, Map.of()));
        Files.writeString(folder.resolve("chat_template.jinja"), "file {{ add_generation_prompt }} {{ mode }}");
        assertEquals("file True fast", assertNotNullTemplate(ChatTemplate.load(folder))
                .render(List.of(Message.user("hi")), true, Map.of("mode", "fast")));
    }

    @Test
    void namedTemplates() throws IOException {
        Path config = folder.resolve("tokenizer_config.json");
        Files.writeString(config, """
                {"chat_template": [{"name": "tool_use", "template": "tools"},
                 {"name": "default", "template": "plain"}]}""");
        ChatTemplate template = assertNotNullTemplate(ChatTemplate.load(folder));
        assertEquals("plain", template.render(List.of(), true, Map.of()));
        assertEquals("tools", template.render(List.of(), true, Map.of("tools", List.of())));
        Files.writeString(config, "{\"chat_template\": [{\"name\": \"other\", \"template\": \"x\"}]}");
        ChatTemplate other = assertNotNullTemplate(ChatTemplate.load(folder));
        assertTrue(assertThrows(LaminaException.class, () -> other.render(List.of(), true, Map.of()))
                .getMessage().contains("default"));
    }

    @Test
    void faultsAreOneLineThatSaysWhere() throws IOException {
        Path file = folder.resolve("chat_template.jinja");
        Files.writeString(file, "a\n{% include 'x' %}");
        ChatTemplate unsupported = assertNotNullTemplate(ChatTemplate.load(folder));
        String message = assertThrows(LaminaException.class, () -> unsupported.render(List.of(), true, Map.of()))
                .getMessage();
        assertTrue(message.contains(file + ", line 2: the tag 'include' is not supported"), message);
        Files.writeString(file, "{{ raise_exception('not\n so') }}");
        ChatTemplate refusing = assertNotNullTemplate(ChatTemplate.load(folder));
        message = assertThrows(LaminaException.class, () -> refusing.render(List.of(), true, Map.of())).getMessage();
        assertTrue(message.endsWith("refuses the conversation: not so"), message);
        Files.writeString(folder.resolve("tokenizer_config.json"), "[1");
        message = assertThrows(LaminaException.class, () -> ChatTemplate.load(folder)).getMessage();
        assertTrue(message.contains("tokenizer_config.json is not a JSON object"), message);
    }
}
