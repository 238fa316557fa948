package dev.lamina.internal.stream;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import java.util.zip.CRC32C;
import org.junit.jupiter.api.Assumptions;

/** Random files below target/, where direct reads work more often than in a temporary folder. */
final class TestFiles implements AutoCloseable {
    final Path folder;
    final List<byte[]> contents = new ArrayList<>();
    final List<Path> paths = new ArrayList<>();
    final List<DataFile> open = new ArrayList<>();

    TestFiles() throws IOException {
        Path target = Path.of("target").toAbsolutePath();
        Files.createDirectories(target);
        folder = Files.createTempDirectory(target, "stream-test-");
    }

    /** Writes a file of random bytes. */
    Path write(Random random, int size) throws IOException {
        var content = new byte[size];
        random.nextBytes(content);
        Path path = folder.resolve("file-" + paths.size());
        Files.write(path, content);
        contents.add(content);
        paths.add(path);
        return path;
    }

    /** Makes a file of zeros that takes no room. */
    Path writeHole(int size) throws IOException {
        Path path = folder.resolve("file-" + paths.size());
        try (var file = new RandomAccessFile(path.toFile(), "rw")) {
            file.setLength(size);
        }
        paths.add(path);
        return path;
    }

    /** Opens all files; skips the test when they should be read directly and the file system refuses. */
    List<DataFile> open(boolean direct, boolean checksums) throws IOException {
        return open(direct ? IoMode.CHANNEL : IoMode.BUFFERED, 1, checksums);
    }

    /** Opens all files, on so many drives in turn; skips the test when the file system refuses. */
    List<DataFile> open(IoMode mode, int drives, boolean checksums) throws IOException {
        for (int i = 0; i < paths.size(); i++) {
            try {
                open.add(DataFile.open(paths.get(i), mode, i % drives, checksums ? checksums(contents.get(i)) : null));
            } catch (NoDirectReadsException e) {
                Assumptions.abort(e.getMessage());
            }
        }
        return open;
    }

    static int[] checksums(byte[] content) {
        var checksums = new int[Math.ceilDiv(content.length, DataFile.UNIT)];
        for (int i = 0; i < checksums.length; i++) {
            var crc = new CRC32C();
            crc.update(content, i * DataFile.UNIT, Math.min(DataFile.UNIT, content.length - i * DataFile.UNIT));
            checksums[i] = (int) crc.getValue();
        }
        return checksums;
    }

    /** Cuts all files into panels of random sizes, with gaps here and there. */
    List<Extent> cut(Random random, int largest) {
        var cycle = new ArrayList<Extent>();
        for (int i = 0; i < contents.size(); i++) {
            int offset = random.nextInt(2) * random.nextInt(100);
            while (offset < contents.get(i).length) {
                int bytes = Math.min(1 + random.nextInt(largest), contents.get(i).length - offset);
                cycle.add(new Extent(i, offset, bytes));
                offset += bytes + random.nextInt(2) * random.nextInt(10_000);
            }
        }
        return cycle;
    }

    @Override
    public void close() throws IOException {
        for (DataFile file : open) {
            file.close();
        }
        try (Stream<Path> all = Files.walk(folder)) {
            for (Path path : all.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(path);
            }
        }
    }
}
