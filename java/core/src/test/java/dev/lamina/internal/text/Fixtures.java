package dev.lamina.internal.text;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URISyntaxException;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/** Finds test data: the copies in the test resources, and the shared folder where there is one. */
public final class Fixtures {
    private Fixtures() {}

    /** Returns a file or folder of the test resources below {@code text/}. */
    public static Path resource(String name) {
        URL url = Objects.requireNonNull(Fixtures.class.getResource("/text/" + name), name);
        try {
            return Path.of(url.toURI());
        } catch (URISyntaxException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Returns a file or folder of the shared fixtures, or null on machines without them. */
    static @Nullable Path shared(String name) {
        for (Path folder = Path.of("").toAbsolutePath(); folder != null; folder = folder.getParent()) {
            Path candidate = folder.resolve("shared/fixtures");
            if (Files.isDirectory(candidate)) {
                return candidate.resolve(name);
            }
        }
        return null;
    }

    static List<Path> children(Path folder) {
        try (Stream<Path> children = Files.list(folder)) {
            return children.sorted().toList();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Returns all tokenizers of the test resources. */
    static Stream<Path> tokenizers() {
        return children(resource("tokenizers")).stream();
    }

    /** Reads a JSON file into maps, lists, strings, numbers and booleans. */
    @SuppressWarnings("unchecked")
    public static Map<String, Object> readJson(Path file) {
        try {
            return (Map<String, Object>) Objects.requireNonNull(value(JsonParser.parseString(Files.readString(file))));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @SuppressWarnings("unchecked")
    public static List<Map<String, Object>> maps(@Nullable Object list) {
        return list == null ? List.of() : (List<Map<String, Object>>) list;
    }

    static int[] ids(Object list) {
        return ((List<?>) list).stream().mapToInt(id -> ((Long) id).intValue()).toArray();
    }

    private static @Nullable Object value(JsonElement element) {
        return switch (element) {
            case JsonObject object -> {
                Map<String, @Nullable Object> map = new LinkedHashMap<>();
                object.asMap().forEach((key, item) -> map.put(key, value(item)));
                yield map;
            }
            case JsonArray array -> {
                List<@Nullable Object> list = new ArrayList<>();
                array.forEach(item -> list.add(value(item)));
                yield list;
            }
            case JsonPrimitive primitive when primitive.isBoolean() -> primitive.getAsBoolean();
            case JsonPrimitive primitive when primitive.isString() -> primitive.getAsString();
            case JsonPrimitive primitive when primitive.getAsString().matches("-?[0-9]+") -> primitive.getAsLong();
            case JsonPrimitive primitive -> primitive.getAsDouble();
            default -> null;
        };
    }
}
