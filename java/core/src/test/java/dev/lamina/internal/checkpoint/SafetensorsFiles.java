package dev.lamina.internal.checkpoint;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/** Makes safetensors files by hand, without the code under test. */
public final class SafetensorsFiles {
    private SafetensorsFiles() {}

    /** Returns a file with this header text and so many bytes of data. */
    public static byte[] file(String json, int dataBytes) {
        return file(json.getBytes(StandardCharsets.UTF_8), new byte[dataBytes]);
    }

    static byte[] file(byte[] json, byte[] data) {
        return ByteBuffer.allocate(8 + json.length + data.length).order(ByteOrder.LITTLE_ENDIAN)
                .putLong(json.length).put(json).put(data).array();
    }

    /** Writes U8 tensors with the given contents. */
    public static void write(Path file, Map<String, byte[]> tensors) throws IOException {
        StringBuilder json = new StringBuilder("{\"__metadata__\":{\"format\":\"pt\"}");
        ByteArrayOutputStream data = new ByteArrayOutputStream();
        tensors.forEach((name, content) -> {
            json.append(",\"%s\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[%d,%d]}".formatted(
                    name, content.length, data.size(), data.size() + content.length));
            data.writeBytes(content);
        });
        // many writers pad with spaces, and the data of some start at odd bytes
        json.append("}  ");
        Files.write(file, file(json.toString().getBytes(StandardCharsets.UTF_8), data.toByteArray()));
    }

    /** Writes files and the index that names them. */
    public static void writeIndexed(Path folder, Map<String, Map<String, byte[]>> files) throws IOException {
        List<String> entries = new ArrayList<>();
        for (var file : files.entrySet()) {
            write(folder.resolve(file.getKey()), file.getValue());
            file.getValue().keySet().forEach(name -> entries.add("\"" + name + "\":\"" + file.getKey() + "\""));
        }
        Files.writeString(folder.resolve("model.safetensors.index.json"),
                "{\"metadata\":{\"total_size\":1},\"weight_map\":{" + String.join(",", entries) + "}}");
    }

    /** Returns random tensors by name, in the order of the names. */
    public static Map<String, byte[]> random(long seed, Map<String, Integer> sizes) {
        Random random = new Random(seed);
        Map<String, byte[]> tensors = new LinkedHashMap<>();
        sizes.forEach((name, size) -> {
            byte[] content = new byte[size];
            random.nextBytes(content);
            tensors.put(name, content);
        });
        return tensors;
    }

    /** Reads a tensor. */
    public static byte[] content(Tensor tensor) throws IOException {
        ByteBuffer content = ByteBuffer.allocate(Math.toIntExact(tensor.bytes()));
        for (Tensor.Part part : tensor.parts()) {
            try (var channel = Files.newByteChannel(part.file())) {
                content.limit(Math.toIntExact(content.position() + part.bytes()));
                channel.position(part.offset());
                while (content.hasRemaining() && channel.read(content) >= 0) {
                    continue;
                }
            }
        }
        return content.array();
    }
}
