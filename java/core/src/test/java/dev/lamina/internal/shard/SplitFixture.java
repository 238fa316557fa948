package dev.lamina.internal.shard;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.SafetensorsFiles;
import dev.lamina.internal.checkpoint.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Function;
import java.util.stream.Stream;

/** A small model in three files, the layers of which begin in one file and end in another. */
final class SplitFixture {
    static final int LAYERS = 4;
    static final SplitListener SILENT = (phase, done, total) -> {};
    static final SplitOptions KEEP = new SplitOptions(false);
    static final SplitOptions DELETE = new SplitOptions(true);
    static final Function<Checkpoint, List<StageTensors>> STAGES = checkpoint -> stages();

    private SplitFixture() {}

    /** Returns the contents of all tensors, by file. */
    static Map<String, Map<String, byte[]>> tensors(long seed) {
        List<Map<String, Integer>> sizes = List.of(new LinkedHashMap<>(), new LinkedHashMap<>(), new LinkedHashMap<>());
        sizes.get(0).put("embed", 1_300_001);
        for (int i = 0; i < LAYERS; i++) {
            sizes.get(i / 2).put("layers." + i + ".q", 100_000 + i);
            sizes.get(i / 2).put("layers." + i + ".norm", 130);
            sizes.get((i + 1) / 2).put("layers." + i + ".down", 60_000 - i);
        }
        sizes.get(2).put("norm", 130);
        sizes.get(2).put("inv_freq", 64);
        sizes.get(2).put("nothing", 0);
        Map<String, Map<String, byte[]>> files = new LinkedHashMap<>();
        for (int i = 0; i < 3; i++) {
            files.put("model-0000" + (i + 1) + ".safetensors", SafetensorsFiles.random(seed + i, sizes.get(i)));
        }
        return files;
    }

    /** Writes the model into a folder. */
    static Path write(Path folder, long seed) throws IOException {
        Files.createDirectories(folder);
        SafetensorsFiles.writeIndexed(folder, tensors(seed));
        Files.writeString(folder.resolve("config.json"), "{\"model_type\":\"llama\"}");
        Files.writeString(folder.resolve("tokenizer.json"), "{}");
        Files.writeString(folder.resolve("chat_template.jinja"), "{{ messages }}");
        Files.writeString(folder.resolve("LICENSE"), "free");
        Files.writeString(folder.resolve("training.log"), "not needed");
        return folder;
    }

    /** Returns stages with a tied head and tensors in another order than that of the files. */
    static List<StageTensors> stages() {
        List<StageTensors> stages = new ArrayList<>();
        stages.add(new StageTensors("embedding", List.of("embed")));
        for (int i = 0; i < LAYERS; i++) {
            stages.add(new StageTensors("layer.%03d".formatted(i),
                    List.of("layers." + i + ".norm", "layers." + i + ".q", "layers." + i + ".down")));
        }
        stages.add(new StageTensors("head", List.of("norm", "embed")));
        return stages;
    }

    /** Returns all files of a folder and below, as they are. */
    static Map<String, byte[]> contents(Path folder) throws IOException {
        Map<String, byte[]> contents = new TreeMap<>();
        if (Files.exists(folder)) {
            try (Stream<Path> entries = Files.walk(folder)) {
                for (Path file : (Iterable<Path>) entries.filter(Files::isRegularFile)::iterator) {
                    contents.put(folder.relativize(file).toString(), Files.readAllBytes(file));
                }
            }
        }
        return contents;
    }

    static void assertSameContents(Path expected, Path actual) throws IOException {
        assertSameContents(contents(expected), contents(actual));
    }

    static void assertSameContents(Map<String, byte[]> expected, Map<String, byte[]> actual) {
        assertEquals(expected.keySet(), actual.keySet());
        expected.forEach((name, content) -> assertArrayEquals(content, actual.get(name), name));
    }

    /** Makes sure that a shard set holds every tensor of the model, and nothing else. */
    static void assertHolds(Path set, long seed) throws IOException {
        Checkpoint checkpoint = Checkpoint.open(set);
        Map<String, byte[]> expected = new TreeMap<>();
        tensors(seed).values().forEach(expected::putAll);
        Map<String, byte[]> actual = new TreeMap<>();
        for (Tensor tensor : checkpoint.tensors()) {
            actual.put(tensor.name(), SafetensorsFiles.content(tensor));
        }
        assertSameContents(expected, actual);
        assertEquals(List.of(), Verifier.verify(checkpoint, SILENT));
    }
}
