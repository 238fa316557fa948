package dev.lamina.internal.model;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.FileErrors;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * The values of a JSON configuration file ({@code config.json}, or an object inside it), read with type and range
 * checks. A key whose value is {@code null} counts as absent. All errors name the file and the key.
 */
public final class ModelConfig {
    /** No published configuration comes near this size; a larger file is refused before it is parsed. */
    private static final long MAX_FILE_BYTES = 16L << 20;

    private final String where;
    private final JsonObject json;

    private ModelConfig(String where, JsonObject json) {
        this.where = where;
        this.json = json;
    }

    /** Reads {@code config.json} of a model folder. */
    public static ModelConfig load(Path modelDirectory) {
        var file = modelDirectory.resolve("config.json");
        var config = loadIfPresent(file);
        if (config == null) {
            throw new LaminaException("No config.json in " + modelDirectory
                    + ": give the folder of a Hugging Face model, or of a shard set.");
        }
        return config;
    }

    /** Reads a JSON file; null if it does not exist. */
    public static @Nullable ModelConfig loadIfPresent(Path file) {
        try {
            if (!Files.exists(file)) {
                return null;
            }
            if (Files.size(file) > MAX_FILE_BYTES) {
                throw new LaminaException(file + " is " + Files.size(file) + " bytes: too large for a configuration.");
            }
            return parse(file.toString(), Files.readString(file));
        } catch (IOException e) {
            throw FileErrors.explain("cannot read " + file, e);
        }
    }

    /** Parses JSON text; {@code where} names it in error messages. */
    public static ModelConfig parse(String where, String text) {
        try {
            if (JsonParser.parseString(text) instanceof JsonObject object) {
                return new ModelConfig(where, object);
            }
            throw new LaminaException(where + " is not a JSON object.");
        } catch (JsonParseException | StackOverflowError e) {
            throw new LaminaException(where + " is not valid JSON: copy it again from where the model came from.", e);
        }
    }

    /** Names the file in error messages. */
    public String where() {
        return where;
    }

    /** Whether it is of this class; where it names none, whether it is of this model type. */
    boolean isA(String architecture, String modelType) {
        var names = strings("architectures");
        return names.isEmpty()
                ? stringOr("model_type", "").equals(modelType)
                : names.getFirst().equals(architecture);
    }

    /** Whether the key is there with a value other than null. */
    public boolean has(String key) {
        return find(key) != null;
    }

    /**
     * Whether the key is there, be it with the value null: for keys whose absence means a default and null means none.
     */
    public boolean mentions(String key) {
        return json.has(key);
    }

    /** A whole number that must be there. */
    public int requireInt(String key, int min, int max) {
        if (!has(key)) {
            throw new LaminaException(where + " has no \"" + key + "\": the model cannot be built without it.");
        }
        return intOr(key, min, min, max);
    }

    /** A whole number between {@code min} and {@code max}, or {@code fallback} where the key is absent. */
    public int intOr(String key, int fallback, int min, int max) {
        var number = number(key);
        if (number == null) {
            return fallback;
        }
        double value = number;
        if (value != Math.rint(value) || value < min || value > max) {
            throw new LaminaException(where + ": \"" + key + "\" is " + find(key)
                    + ", but must be a whole number between " + min + " and " + max + ".");
        }
        return (int) value;
    }

    /** A finite number, or {@code fallback} where the key is absent. */
    public double doubleOr(String key, double fallback) {
        var number = number(key);
        return number == null ? fallback : number;
    }

    /** A number between {@code min} and {@code max}, or {@code fallback} where the key is absent. */
    public double doubleOr(String key, double fallback, double min, double max) {
        double value = doubleOr(key, fallback);
        if (value < min || value > max) {
            throw new LaminaException(where + ": \"" + key + "\" is " + value + ", but must be between " + min + " and "
                    + max + ".");
        }
        return value;
    }

    /** A finite number above 0, or {@code fallback} where the key is absent. */
    public double positiveOr(String key, double fallback) {
        double value = doubleOr(key, fallback);
        if (value <= 0) {
            throw new LaminaException(where + ": \"" + key + "\" is " + value + ", but must be above 0.");
        }
        return value;
    }

    /** A finite number, or null where the key is absent. */
    public @Nullable Double number(String key) {
        var element = find(key);
        if (element == null) {
            return null;
        }
        if (element instanceof JsonPrimitive primitive && primitive.isNumber()) {
            double value = primitive.getAsDouble();
            if (Double.isFinite(value)) {
                return value;
            }
        }
        throw new LaminaException(where + ": \"" + key + "\" is " + element + ", but must be a number.");
    }

    /** True or false, or {@code fallback} where the key is absent. */
    public boolean booleanOr(String key, boolean fallback) {
        var element = find(key);
        if (element == null) {
            return fallback;
        }
        if (element instanceof JsonPrimitive primitive && primitive.isBoolean()) {
            return primitive.getAsBoolean();
        }
        throw new LaminaException(where + ": \"" + key + "\" is " + element + ", but must be true or false.");
    }

    /** The same for keys that also have numbers: all but 0 are true. */
    public boolean truthOr(String key, boolean fallback) {
        boolean isNumber = find(key) instanceof JsonPrimitive primitive && primitive.isNumber();
        return isNumber ? doubleOr(key, 0) != 0 : booleanOr(key, fallback);
    }

    /** A string, or {@code fallback} where the key is absent. */
    public String stringOr(String key, String fallback) {
        var element = find(key);
        if (element == null) {
            return fallback;
        }
        if (element instanceof JsonPrimitive primitive && primitive.isString()) {
            return primitive.getAsString();
        }
        throw new LaminaException(where + ": \"" + key + "\" is " + element + ", but must be a string.");
    }

    /** The strings of a list; empty where the key is absent. */
    public List<String> strings(String key) {
        var element = find(key);
        var result = new ArrayList<String>();
        if (element != null) {
            if (!element.isJsonArray()) {
                throw new LaminaException(where + ": \"" + key + "\" is not a list.");
            }
            for (var item : element.getAsJsonArray()) {
                if (!(item instanceof JsonPrimitive primitive && primitive.isString())) {
                    throw new LaminaException(where + ": \"" + key + "\" holds " + item + ", but must hold strings.");
                }
                result.add(item.getAsString());
            }
        }
        return List.copyOf(result);
    }

    /** The numbers above 0 of a list; empty where the key is absent. */
    public List<Double> positives(String key) {
        var numbers = numbers(key);
        for (double number : numbers) {
            if (number <= 0) {
                throw new LaminaException(
                        where + ": \"" + key + "\" holds " + number + ", but must hold numbers above 0.");
            }
        }
        return numbers;
    }

    /** The finite numbers of a list; empty where the key is absent. */
    public List<Double> numbers(String key) {
        var element = find(key);
        var result = new ArrayList<Double>();
        if (element != null) {
            if (!element.isJsonArray()) {
                throw new LaminaException(where + ": \"" + key + "\" is not a list.");
            }
            for (var item : element.getAsJsonArray()) {
                if (!(item instanceof JsonPrimitive primitive && primitive.isNumber()
                        && Double.isFinite(primitive.getAsDouble()))) {
                    throw new LaminaException(where + ": \"" + key + "\" holds " + item + ", but must hold numbers.");
                }
                result.add(item.getAsDouble());
            }
        }
        return List.copyOf(result);
    }

    /** The token ids of a number or of a list of numbers; empty where the key is absent. */
    public List<Integer> ids(String key) {
        var element = find(key);
        var result = new ArrayList<Integer>();
        if (element != null) {
            var items = element.isJsonArray() ? element.getAsJsonArray().asList() : List.of(element);
            for (var item : items) {
                if (!(item instanceof JsonPrimitive primitive && primitive.isNumber())
                        || item.getAsDouble() != (double) (int) item.getAsDouble()) {
                    throw new LaminaException(where + ": \"" + key + "\" holds " + item + ", but must hold token ids.");
                }
                result.add((int) item.getAsDouble());
            }
        }
        return List.copyOf(result);
    }

    /** The ids that end a text; where it names none, those that the configuration of its language model names. */
    public List<Integer> endTokens() {
        var own = ids("eos_token_id");
        return own.isEmpty() ? text().ids("eos_token_id") : own;
    }

    /** The configuration of the language model: {@code text_config} where there is one. */
    ModelConfig text() {
        var inner = object("text_config");
        return inner == null ? this : inner;
    }

    /** An object, or null where the key is absent. */
    public @Nullable ModelConfig object(String key) {
        var element = find(key);
        if (element == null) {
            return null;
        }
        if (element instanceof JsonObject object) {
            return new ModelConfig(where + " \"" + key + "\"", object);
        }
        throw new LaminaException(where + ": \"" + key + "\" is not an object.");
    }

    /** The same with values for keys that it does not mention; null is a mention. */
    ModelConfig withDefaults(Map<String, Number> defaults) {
        var filled = json.deepCopy();
        defaults.forEach((key, value) -> {
            if (!filled.has(key)) {
                filled.addProperty(key, value);
            }
        });
        return new ModelConfig(where, filled);
    }

    /** Refuses a key that means something which is not supported, unless its value is null, false or 0. */
    void refuse(String key) {
        if (find(key) instanceof JsonElement element && !List.of("false", "0", "0.0").contains(element.toString())) {
            throw new LaminaException(where + ": \"" + key + "\" is " + element + ", which is not supported.");
        }
    }

    /** What to throw where a value of a known key is not supported; {@code supported} says which are. */
    LaminaException unsupported(String key, String value, String supported) {
        return new LaminaException(where + ": \"" + key + "\" is " + value + ", which is not supported; " + supported
                + ".");
    }

    /** Whether there is no key at all. */
    public boolean isEmpty() {
        return json.isEmpty();
    }

    /** Whether a value is itself an object. */
    public boolean isNested() {
        return json.asMap().values().stream().anyMatch(JsonElement::isJsonObject);
    }

    private @Nullable JsonElement find(String key) {
        var element = json.get(key);
        return element == null || element.isJsonNull() ? null : element;
    }
}
