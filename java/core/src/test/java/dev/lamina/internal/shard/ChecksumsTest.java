package dev.lamina.internal.shard;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.lamina.internal.checkpoint.ShardManifest;
import java.nio.ByteBuffer;
import java.util.Random;
import java.util.zip.CRC32C;
import org.junit.jupiter.api.Test;

class ChecksumsTest {
    private static int crc(byte[] bytes, int from, int to) {
        CRC32C checksum = new CRC32C();
        checksum.update(bytes, from, to - from);
        return (int) checksum.getValue();
    }

    @Test
    void joinedChecksumsAreThoseOfTheWhole() {
        Random random = new Random(1);
        for (int round = 0; round < 500; round++) {
            byte[] bytes = new byte[random.nextInt(5000)];
            random.nextBytes(bytes);
            int cut = random.nextInt(bytes.length + 1);
            assertEquals(crc(bytes, 0, bytes.length),
                    Checksums.join(crc(bytes, 0, cut), crc(bytes, cut, bytes.length), bytes.length - cut));
        }
    }

    @Test
    void rangesInAnyPortionsGiveTheChecksumsOfTheChunks() {
        Random random = new Random(2);
        int chunk = ShardManifest.CHUNK_BYTES;
        byte[] file = new byte[3 * chunk + 12345];
        random.nextBytes(file);
        for (int round = 0; round < 20; round++) {
            Checksums.Chunks chunks = new Checksums.Chunks(file.length);
            for (int at = 0; at < file.length;) {
                int range = random.nextInt(4) == 0 ? 0 : Math.min(file.length - at, 1 + random.nextInt(chunk * 2));
                Checksums.Pieces pieces = new Checksums.Pieces(at, range);
                for (int done = 0; done < range;) {
                    int portion = Math.min(range - done, 1 + random.nextInt(700_000));
                    pieces.update(ByteBuffer.wrap(file, at + done, portion));
                    done += portion;
                }
                assertEquals(Checksums.pieces(at, range), pieces.finish().length);
                chunks.add(range, pieces.finish());
                at += range;
            }
            int[] expected = {crc(file, 0, chunk), crc(file, chunk, 2 * chunk), crc(file, 2 * chunk, 3 * chunk),
                crc(file, 3 * chunk, file.length)};
            assertArrayEquals(expected, chunks.finish());
        }
    }
}
