package dev.lamina.internal.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.LaminaException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

class SafetensorsHeaderTest {
    private static final String TWO = "{\"__metadata__\":{\"format\":\"pt\"},"
            + "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
            + "\"b\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[24,26]}}";

    @TempDir(factory = FastDisk.class)
    Path folder;

    private Path write(byte[] content) throws IOException {
        return Files.write(folder.resolve("x.safetensors"), content);
    }

    @Test
    void readsOffsetsShapesAndTypes() throws IOException {
        SafetensorsHeader header = SafetensorsHeader.read(write(SafetensorsFiles.file(TWO, 26)));
        Path file = folder.resolve("x.safetensors");
        long start = 8 + TWO.length();
        assertEquals(List.of(new Tensor("a", DType.F32, List.of(2L, 3L), file, start, 24),
                new Tensor("b", DType.BF16, List.of(), file, start + 24, 2)), header.tensors());
        assertEquals(start, header.headerBytes());
        assertEquals(start + 26, header.fileBytes());
    }

    @Test
    void readsWhatThePublishedWriterWrote() {
        Checkpoint checkpoint = Checkpoint.open(Path.of("src/test/resources/checkpoint/qwen2_tied"));
        assertEquals(List.of(64L), checkpoint.tensor("model.norm.weight").shape());
        assertEquals(1, checkpoint.files().size());
        assertTrue(checkpoint.tensors().size() > 20);
    }

    static Stream<Arguments> hostile() {
        String deep = "[".repeat(5000) + "]".repeat(5000);
        return Stream.of(
                Arguments.of("{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype"),
                Arguments.of("{\"a\":{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype"),
                Arguments.of("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "negative"),
                Arguments.of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, "whole numbers"),
                Arguments.of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1e0],\"data_offsets\":[0,4]}}", 4, "whole numbers"),
                Arguments.of("{\"a\":{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}}", 4, "whole"),
                Arguments.of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,18446744073709551620]}}", 4,
                        "whole numbers"),
                Arguments.of("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0,
                        "too large"),
                Arguments.of("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "takes 8"),
                Arguments.of("{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[4,0]}}", 4, "before it begins"),
                Arguments.of("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, "truncated"),
                Arguments.of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "hole"),
                Arguments.of("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                        + "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", 6, "overlaps"),
                Arguments.of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5, "after its last"),
                Arguments.of("{}", 1, "after its last"),
                Arguments.of("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                        + "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}", 4, "twice"),
                Arguments.of("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2,
                        "twice"),
                Arguments.of("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2,3]}}", 2, "more than 2"),
                Arguments.of("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0]}}", 2, "two data_offsets"),
                Arguments.of("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,2]}}", 2, "shape"),
                Arguments.of("{\"a\":[1]}", 2, "not valid"),
                Arguments.of("{\"a\":null}", 2, "not valid"),
                Arguments.of("{\"a\"", 2, "not valid"),
                Arguments.of("{} {}", 0, "not valid"),
                Arguments.of("[]", 0, "does not begin with"),
                Arguments.of("\ufeff{}", 0, "does not begin with"),
                Arguments.of("{\"__metadata__\":{\"a\":1}}", 0, "not text"),
                Arguments.of("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "twice"),
                Arguments.of("{\"__metadata__\":[]}", 0, "not valid"),
                Arguments.of("{\"\\ud800\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "Unicode"),
                Arguments.of("{\"a\":{\"x\":" + deep + "}}", 0, "not valid"),
                Arguments.of("{\"a\":" + deep + "}", 0, "not valid"),
                Arguments.of("{\"" + "n".repeat(BoundedStrings.LIMIT + 10) + "\":1}", 0, "characters"),
                Arguments.of("{\"a\":{\"dtype\":\"U8\",\"shape\":[" + "1,".repeat(40) + "1],\"data_offsets\":[0,1]}}",
                        1, "more than 32"));
    }

    @ParameterizedTest
    @MethodSource("hostile")
    void refusesWithOneClearLine(String json, int dataBytes, String reason) throws IOException {
        Path file = write(SafetensorsFiles.file(json, dataBytes));
        String message = assertThrows(LaminaException.class, () -> SafetensorsHeader.read(file)).getMessage();
        assertTrue(message.contains(reason), message);
        assertTrue(message.startsWith(file.toString()), message);
        assertTrue(message.length() < 500 && message.lines().count() == 1, message);
    }

    @Test
    void namesInMessagesCannotBreakTheLine() throws IOException {
        Path file = write(SafetensorsFiles.file("{\"a\\n\\u001b[31m" + "x".repeat(3000) + "\":{\"dtype\":\"Q\","
                + "\"shape\":[],\"data_offsets\":[0,1]}}", 1));
        String message = assertThrows(LaminaException.class, () -> SafetensorsHeader.read(file)).getMessage();
        assertEquals(1, message.lines().count());
        assertFalse(message.contains("\u001b"), message);
        assertTrue(message.length() < 500, message);
    }

    @Test
    void refusesLengthsBeyondTheFileOrTheLimit() throws IOException {
        byte[] content = SafetensorsFiles.file(TWO, 26);
        for (long length : new long[] {content.length, SafetensorsHeader.MAX_JSON_BYTES + 1, Long.MAX_VALUE, -1,
            Long.MIN_VALUE, 0, 1}) {
            ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN).putLong(0, length);
            Path file = write(content);
            assertThrows(LaminaException.class, () -> SafetensorsHeader.read(file), "length " + length);
        }
    }

    @Test
    void refusesInvalidUtf8() throws IOException {
        byte[] json = TWO.replace("\"a\"", "\"\u00e4\"").getBytes(StandardCharsets.ISO_8859_1);
        Path file = write(SafetensorsFiles.file(json, new byte[26]));
        assertTrue(assertThrows(LaminaException.class, () -> SafetensorsHeader.read(file)).getMessage()
                .contains("UTF-8"));
    }

    @Test
    void refusesFoldersAndMissingFiles() {
        assertThrows(LaminaException.class, () -> SafetensorsHeader.read(folder));
        assertThrows(LaminaException.class, () -> SafetensorsHeader.read(folder.resolve("none")));
    }

    @Test
    void refusesEveryTruncationAndExtension() throws IOException {
        byte[] content = SafetensorsFiles.file(TWO, 26);
        for (int length = 0; length < content.length; length++) {
            Path file = write(Arrays.copyOf(content, length));
            assertThrows(LaminaException.class, () -> SafetensorsHeader.read(file), "length " + length);
        }
        Path longer = write(Arrays.copyOf(content, content.length + 1));
        assertThrows(LaminaException.class, () -> SafetensorsHeader.read(longer));
    }

    @Test
    void bitFlipsAreReadSoundlyOrRefused() throws IOException {
        byte[] content = SafetensorsFiles.file(TWO, 26);
        int refused = 0;
        for (int bit = 0; bit < 8 * (content.length - 26); bit++) {
            byte[] flipped = content.clone();
            flipped[bit / 8] ^= (byte) (1 << bit % 8);
            refused += readSoundlyOrRefuse(flipped) ? 0 : 1;
        }
        assertTrue(refused > 500, "refused " + refused);
    }

    @Test
    void randomDamageIsReadSoundlyOrRefused() throws IOException {
        Random random = new Random(7);
        byte[] content = SafetensorsFiles.file(TWO, 26);
        byte[] alphabet = "{}[]\",:0123456789.eE+- \\un\ud83d\ude00\0".getBytes(StandardCharsets.UTF_8);
        for (int round = 0; round < 3000; round++) {
            byte[] damaged = content.clone();
            for (int i = random.nextInt(6); i >= 0; i--) {
                damaged[8 + random.nextInt(damaged.length - 34)] = alphabet[random.nextInt(alphabet.length)];
            }
            readSoundlyOrRefuse(damaged);
        }
    }

    /** Returns whether it was read. */
    private boolean readSoundlyOrRefuse(byte[] content) throws IOException {
        try {
            SafetensorsHeader header = SafetensorsHeader.read(write(content));
            long end = header.headerBytes();
            for (Tensor tensor : header.tensors()) {
                assertEquals(end, tensor.offset());
                end += tensor.bytes();
            }
            assertEquals(content.length, end);
            return true;
        } catch (LaminaException e) {
            assertEquals(1, e.getMessage().lines().count(), e.getMessage());
            return false;
        }
    }

    @Test
    void layoutsOfRandomTensorsAreReadBack() throws IOException {
        Random random = new Random(42);
        for (int round = 0; round < 200; round++) {
            List<SafetensorsLayout.Entry> entries = new ArrayList<>();
            for (int i = random.nextInt(12); i > 0; i--) {
                List<Long> shape = random.longs(random.nextInt(4), 0, 9).boxed().toList();
                DType dtype = DType.values()[random.nextInt(DType.values().length)];
                entries.add(new SafetensorsLayout.Entry("t\u00e9\"\\" + i, dtype, shape));
            }
            boolean aligned = random.nextBoolean();
            SafetensorsLayout layout =
                    aligned ? SafetensorsLayout.aligned(entries, 4096) : SafetensorsLayout.packed(entries);
            Path file = write(Arrays.copyOf(layout.header(), Math.toIntExact(layout.fileBytes())));
            List<Tensor> read = SafetensorsHeader.read(file).tensors().stream()
                    .filter(tensor -> !tensor.name().startsWith(SafetensorsLayout.PADDING_PREFIX)).toList();
            assertEquals(entries.size(), read.size());
            for (int i = 0; i < entries.size(); i++) {
                SafetensorsLayout.Entry entry = entries.get(i);
                Tensor tensor = read.stream().filter(t -> t.name().equals(entry.name())).findFirst().orElseThrow();
                assertEquals(new Tensor(entry.name(), entry.dtype(), entry.shape(), file, layout.offset(i),
                        entry.bytes()), tensor);
                assertEquals(0, tensor.offset() % (aligned ? 4096 : 1));
            }
            assertEquals(0, layout.headerBytes() % (aligned ? 4096 : 8));
            assertEquals(0, aligned ? layout.fileBytes() % 4096 : 0);
        }
    }

    @Test
    void offsetsHave64Bits(@TempDir Path folder) throws IOException {
        long big = 5L << 30;
        String json = "{\"a\":{\"dtype\":\"U8\",\"shape\":[" + big + "],\"data_offsets\":[0," + big + "]},"
                + "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[" + big + "," + (big + 1) + "]}}";
        Path file = Files.write(folder.resolve("big.safetensors"), SafetensorsFiles.file(json, 0));
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
            channel.write(ByteBuffer.wrap(new byte[] {9}), 8 + json.length() + big); // the rest stays a hole
        }
        Tensor last = SafetensorsHeader.read(file).tensors().getLast();
        assertEquals(8 + json.length() + big, last.offset());
        assertEquals(9, SafetensorsFiles.content(last)[0]);
    }
}
