package dev.lamina.internal.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.LaminaException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.zip.CRC32C;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ShardManifestTest {
    private static final ShardManifest MANIFEST = new ShardManifest("lamina 0.1",
            new ShardManifest.Source("org/n\u00e4me", "ab", "cd",
                    List.of(new ShardManifest.SourceFile("model.safetensors", 5_000_000_000L, "ef"))), null,
            List.of(new ShardManifest.Shard("layer.000.safetensors", (2 << 20) + 1, 4096, -5, new int[] {1, -2, 3}),
                    new ShardManifest.Shard("head.safetensors", 1 << 20, 4096, 6, new int[] {Integer.MIN_VALUE})));

    @TempDir(factory = FastDisk.class)
    Path folder;

    private ShardManifest read(byte[] content) throws IOException {
        return ShardManifest.read(Files.write(folder.resolve(ShardManifest.FILE_NAME), content));
    }

    @Test
    void isReadBack() throws IOException {
        ShardManifest read = read(MANIFEST.encode());
        assertEquals(MANIFEST.tool(), read.tool());
        assertEquals(MANIFEST.source(), read.source());
        assertEquals(2, read.shards().size());
        assertEquals(-5, read.shards().getFirst().headerChecksum());
        assertArrayEquals(new int[] {1, -2, 3}, read.shards().getFirst().checksums());
        assertArrayEquals(new int[] {Integer.MIN_VALUE}, read.shards().getLast().checksums());
    }

    @Test
    void everyBitFlipAndTruncationIsNoticed() throws IOException {
        byte[] content = MANIFEST.encode();
        for (int bit = 0; bit < 8 * content.length; bit++) {
            byte[] flipped = content.clone();
            flipped[bit / 8] ^= (byte) (1 << bit % 8);
            assertThrows(LaminaException.class, () -> read(flipped), "bit " + bit);
        }
        for (int length = 0; length < content.length; length++) {
            byte[] cut = Arrays.copyOf(content, length);
            assertThrows(LaminaException.class, () -> read(cut), "length " + length);
        }
    }

    /** Changes a manifest and gives it the checksum that belongs to it. */
    private static byte[] forged(String from, String to) {
        String text = new String(MANIFEST.encode(), StandardCharsets.UTF_8);
        assertTrue(text.contains(from));
        String first = text.lines().findFirst().orElseThrow().replace(from, to);
        CRC32C checksum = new CRC32C();
        checksum.update(first.getBytes(StandardCharsets.UTF_8));
        return (first + "\n\"manifest_crc32c\":\"%08x\"}\n".formatted(checksum.getValue()))
                .getBytes(StandardCharsets.UTF_8);
    }

    @Test
    void namesANewerVersion() {
        String message = assertThrows(LaminaException.class, () -> read(forged("\"version\":1", "\"version\":3")))
                .getMessage();
        assertTrue(message.contains("newer Lamina"), message);
    }

    @ParameterizedTest
    @ValueSource(strings = {"../head.safetensors", "/head.safetensors", "..", "a\\\\b", "", "a\\u0000", "C:x",
        "layer.000.safetensors"})
    void refusesFilesElsewhereAndTwice(String name) {
        assertThrows(LaminaException.class, () -> read(forged("head.safetensors", name)));
    }

    @ParameterizedTest
    @ValueSource(strings = {"\"bytes\":-1", "\"bytes\":1048577", "\"bytes\":1e99", "\"bytes\":\"x\"", "\"bytes\":[]",
        "\"bytes\":null", "\"b\":1", "\"bytes\":9223372036854775807"})
    void refusesSizesThatDoNotFit(String bytes) {
        assertThrows(LaminaException.class, () -> read(forged("\"bytes\":1048576", bytes)));
    }
}
