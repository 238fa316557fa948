package dev.lamina.internal.text;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import dev.lamina.LaminaException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * What {@code tokenizer_config.json} and {@code special_tokens_map.json} of a model say.
 *
 * @param specialTokens text by name, such as {@code bos_token}; {@code additional_special_tokens} is a list of texts
 * @param chatTemplates source by name; a single one is called {@code default}
 */
record TokenizerConfig(Map<String, Object> specialTokens, Map<String, String> chatTemplates) {
    static final String FILE = "tokenizer_config.json";
    private static final String SPECIAL_TOKENS_FILE = "special_tokens_map.json";
    private static final long MAX_BYTES = 64L << 20;
    private static final List<String> TOKEN_NAMES = List.of(
            "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token");

    /** Reads both files; what is missing is empty. */
    static TokenizerConfig read(Path modelDirectory) {
        Map<String, Object> tokens = new LinkedHashMap<>();
        JsonObject config = readObject(modelDirectory.resolve(FILE));
        // The file of its own is the older place: what the configuration says counts more.
        addTokens(readObject(modelDirectory.resolve(SPECIAL_TOKENS_FILE)), tokens);
        addTokens(config, tokens);
        return new TokenizerConfig(tokens, chatTemplates(config.get("chat_template")));
    }

    private static JsonObject readObject(Path file) {
        String text;
        try {
            if (Files.size(file) > MAX_BYTES) {
                throw new LaminaException(
                        file + " is larger than " + MAX_BYTES + " bytes: it is no such file of a model");
            }
            text = Files.readString(file);
        } catch (NoSuchFileException e) {
            return new JsonObject();
        } catch (IOException e) {
            throw new LaminaException(file + " cannot be read: " + e + "; check the file and its permissions", e);
        }
        try {
            return JsonParser.parseString(text).getAsJsonObject();
        } catch (JsonParseException | IllegalStateException e) {
            throw new LaminaException(file + " is not a JSON object: download it again", e);
        }
    }

    private static void addTokens(JsonObject config, Map<String, Object> tokens) {
        for (String name : TOKEN_NAMES) {
            String text = tokenText(config.get(name));
            if (text != null) {
                tokens.put(name, text);
            }
        }
        if (config.get("additional_special_tokens") instanceof JsonElement additional && additional.isJsonArray()) {
            List<String> texts = new ArrayList<>();
            for (JsonElement token : additional.getAsJsonArray()) {
                String text = tokenText(token);
                if (text != null) {
                    texts.add(text);
                }
            }
            tokens.put("additional_special_tokens", texts);
        }
        if (config.get("extra_special_tokens") instanceof JsonElement extra && extra.isJsonObject()) {
            extra.getAsJsonObject().asMap().forEach((name, token) -> {
                String text = tokenText(token);
                if (text != null) {
                    tokens.put(name, text);
                }
            });
        }
    }

    /** Returns the text of a token, which is written as a string or as an object with {@code content}. */
    private static @Nullable String tokenText(@Nullable JsonElement token) {
        if (token == null) {
            return null;
        }
        JsonElement text = token.isJsonObject() ? token.getAsJsonObject().get("content") : token;
        return text != null && text.isJsonPrimitive() ? text.getAsString() : null;
    }

    private static Map<String, String> chatTemplates(@Nullable JsonElement templates) {
        Map<String, String> sources = new LinkedHashMap<>();
        if (templates != null && templates.isJsonPrimitive()) {
            sources.put(ChatTemplate.DEFAULT, templates.getAsString());
        } else if (templates != null && templates.isJsonArray()) {
            for (JsonElement entry : templates.getAsJsonArray()) {
                if (entry.isJsonObject()
                        && entry.getAsJsonObject().get("name") instanceof JsonElement name && name.isJsonPrimitive()
                        && entry.getAsJsonObject().get("template") instanceof JsonElement source
                        && source.isJsonPrimitive()) {
                    sources.put(name.getAsString(), source.getAsString());
                }
            }
        }
        return sources;
    }

    /** Returns the text of a special token, or null. */
    @Nullable String token(String name) {
        return specialTokens.get(name) instanceof String text ? text : null;
    }
}
