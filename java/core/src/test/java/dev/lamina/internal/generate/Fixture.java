package dev.lamina.internal.generate;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.lamina.internal.checkpoint.SafetensorsHeader;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;

/**
 * A tiny model whose outputs were computed by its family's published code. Some are in the test resources; more are
 * used where a folder {@code shared/fixtures} lies beside the project or above it.
 */
record Fixture(Path directory) {
    /** One prompt and what the reference makes of it. */
    record Prompt(int index, int[] ids, int[] greedyIds, double[] greedyGap) {}

    /** The fixtures that can be had and that {@code wanted} names, by name. */
    static List<Fixture> find(List<String> wanted) throws IOException {
        var found = new TreeMap<String, Fixture>();
        for (var root : roots()) {
            for (var name : wanted) {
                if (Files.exists(root.resolve(name).resolve("golden.json"))) {
                    found.putIfAbsent(name, new Fixture(root.resolve(name)));
                }
            }
        }
        return List.copyOf(found.values());
    }

    private static List<Path> roots() {
        var roots = new ArrayList<Path>();
        roots.add(Path.of("src/test/resources/fixtures").toAbsolutePath());
        for (var folder = Path.of("").toAbsolutePath(); folder != null; folder = folder.getParent()) {
            if (Files.isDirectory(folder.resolve("shared/fixtures"))) {
                roots.add(folder.resolve("shared/fixtures"));
            }
        }
        return roots;
    }

    JsonObject golden() throws IOException {
        return JsonParser.parseString(Files.readString(directory.resolve("golden.json"))).getAsJsonObject();
    }

    double logitsTolerance() throws IOException {
        return golden().getAsJsonObject("tolerance").get("logits_max_abs_f32_compute").getAsDouble();
    }

    List<Prompt> prompts() throws IOException {
        var prompts = new ArrayList<Prompt>();
        for (var element : golden().getAsJsonArray("prompts")) {
            var prompt = element.getAsJsonObject();
            prompts.add(new Prompt(prompts.size(), ints(prompt.getAsJsonArray("input_ids")),
                    ints(prompt.getAsJsonArray("greedy_ids")),
                    prompt.getAsJsonArray("greedy_gap").asList().stream()
                            .mapToDouble(gap -> gap.getAsDouble())
                            .toArray()));
        }
        return prompts;
    }

    private static int[] ints(JsonArray array) {
        return array.asList().stream().mapToInt(element -> element.getAsInt()).toArray();
    }

    /** The reference's logits of a prompt, row by row; of its last rows only where it keeps no more. */
    float[][] logits(int prompt) throws IOException {
        return golden("prompt" + prompt + ".logits");
    }

    /** The prompt whose hidden states the reference keeps. */
    Prompt hiddenPrompt() throws IOException {
        return prompts().get(golden().get("hidden_prompt").getAsInt());
    }

    /** The reference's input of a layer, or the output of the last one, row by row. */
    float[][] hidden(int layer) throws IOException {
        return golden("hidden." + layer);
    }

    private float[][] golden(String name) throws IOException {
        var file = directory.resolve("golden.safetensors");
        var tensor = SafetensorsHeader.read(file).tensors().stream()
                .filter(each -> each.name().equals(name))
                .findFirst()
                .orElseThrow();
        var bytes = ByteBuffer.allocate(Math.toIntExact(tensor.bytes())).order(ByteOrder.LITTLE_ENDIAN);
        try (var channel = FileChannel.open(file)) {
            while (bytes.hasRemaining() && channel.read(bytes, tensor.offset() + bytes.position()) > 0) {
                // Reads on until all is there; the comparison fails if it is not.
            }
        }
        bytes.flip();
        int columns = Math.toIntExact(tensor.shape().getLast());
        var rows = new float[bytes.remaining() / Float.BYTES / columns][columns];
        for (var row : rows) {
            for (int column = 0; column < columns; column++) {
                row[column] = bytes.getFloat();
            }
        }
        return rows;
    }

    @Override
    public String toString() {
        return directory.getFileName().toString();
    }
}
