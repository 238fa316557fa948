package dev.lamina.internal.text;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
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
 * What {@code tokenizer_config.json}, {@code special_tokens_map.json} and {@code added_tokens.json} of a model say.
 *
 * @param specialTokens text by name, such as {@code bos_token}; {@code additional_special_tokens} is a list of texts
 * @param chatTemplates source by name; a single one is called {@code default}
 * @param addedTokens tokens beside the vocabulary, and those of it that are recognised in a text
 * @param json all of {@code tokenizer_config.json}
 */
record TokenizerConfig(
        Map<String, Object> specialTokens,
        Map<String, String> chatTemplates,
        List<AddedTokens.Token> addedTokens,
        JsonObject json) {
    static final String FILE = "tokenizer_config.json";
    private static final String SPECIAL_TOKENS_FILE = "special_tokens_map.json";
    private static final String ADDED_TOKENS_FILE = "added_tokens.json";
    private static final long MAX_BYTES = 64L << 20;
    private static final List<String> TOKEN_NAMES = List.of(
            "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token");

    /** Reads these files; what is missing is empty. */
    static TokenizerConfig read(Path modelDirectory) {
        Map<String, Object> tokens = new LinkedHashMap<>();
        JsonObject config = readObject(modelDirectory.resolve(FILE));
        // The file of its own is the older place: what the configuration says counts more.
        addTokens(readObject(modelDirectory.resolve(SPECIAL_TOKENS_FILE)), tokens);
        addTokens(config, tokens);
        List<AddedTokens.Token> added = new ArrayList<>();
        readObject(modelDirectory.resolve(ADDED_TOKENS_FILE)).asMap().forEach(
                (text, id) -> added.add(new AddedTokens.Token(id(id), text, false, true, false, false)));
        if (config.get("added_tokens_decoder") instanceof JsonObject decoder) {
            decoder.asMap().forEach((id, token) -> addDecoded(new JsonPrimitive(id), token, added));
        }
        return new TokenizerConfig(tokens, chatTemplates(config.get("chat_template")), added, config);
    }

    private static void addDecoded(JsonElement id, JsonElement token, List<AddedTokens.Token> added) {
        String text = tokenText(token);
        if (text != null && token instanceof JsonObject object) {
            added.add(new AddedTokens.Token(id(id), text, flag(object, "special", false), true,
                    flag(object, "lstrip", false), flag(object, "rstrip", false)));
        }
    }

    /** The id of a token; -1, which no token has, where it is none. */
    static int id(JsonElement id) {
        try {
            return id.isJsonPrimitive() ? Integer.parseInt(id.getAsString()) : -1;
        } catch (NumberFormatException e) {
            return -1;
        }
    }

    private static boolean flag(JsonObject object, String name, boolean fallback) {
        return object.get(name) instanceof JsonPrimitive value && value.isBoolean() ? value.getAsBoolean() : fallback;
    }

    /** Reads a JSON object; one without members where there is no such file. */
    static JsonObject readObject(Path file) {
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

    /** Returns a switch, or {@code fallback} where the configuration has none. */
    boolean flag(String name, boolean fallback) {
        return flag(json, name, fallback);
    }

    /** Returns a text, or an empty one where the configuration has none. */
    String text(String name) {
        return text(json, name);
    }

    /** Returns a text of an object, or an empty one where it has none. */
    static String text(JsonObject object, String name) {
        return object.get(name) instanceof JsonPrimitive value && value.isString() ? value.getAsString() : "";
    }

    /** Returns the id of a token, or -1 where an object has none. */
    static int id(JsonObject object, String name) {
        return object.get(name) instanceof JsonElement value ? id(value) : -1;
    }

    /** The Python class of the tokenizer, without the ending that the fast ones have. */
    String tokenizerClass() {
        String name = text("tokenizer_class");
        return name.endsWith("Fast") ? name.substring(0, name.length() - "Fast".length()) : name;
    }
}
