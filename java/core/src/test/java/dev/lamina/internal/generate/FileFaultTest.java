package dev.lamina.internal.generate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.GenerationListener;
import dev.lamina.GenerationOptions;
import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.ModelOptions.Io;
import dev.lamina.Prompt;
import dev.lamina.SweepProgress;
import dev.lamina.internal.runtime.Rings;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.io.UncheckedIOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileTime;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Files that are cut, changed, replaced or taken away in the middle of a sweep. */
class FileFaultTest {
    private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen2_yarn");
    private static final GenerationOptions GREEDY =
            GenerationOptions.builder().maxTokens(6).greedy().ignoreEos(true).build();
    private static final Prompt PROMPT = Prompt.ids(3, 4, 5);

    private Path folder = Path.of("");
    private Path weights = Path.of("");

    /** Something that happens to the weights, or their folder. */
    private enum Fault {
        TRUNCATED(".*(the file ends at offset \\d+|its size changed .* at offset \\d+).*"),
        WRITTEN_TO(".*it was written to or replaced, noticed after reading at offset \\d+.*"),
        REPLACED(".*it was written to or replaced, noticed after reading at offset \\d+.*"),
        DELETED(".*it, or its folder, is gone, noticed after reading at offset \\d+.*"),
        FOLDER_GONE(".*it, or its folder, is gone, noticed after reading at offset \\d+.*");

        final String message;

        Fault(String message) {
            this.message = message;
        }
    }

    @BeforeEach
    void copyModel() throws IOException {
        // below target/, where direct reads work more often than in a temporary folder
        folder = Files.createTempDirectory(Path.of("target").toAbsolutePath(), "fault-test-");
        weights = folder.resolve("model.safetensors");
        for (var name : List.of("config.json", "model.safetensors")) {
            Files.copy(MODEL.resolve(name), folder.resolve(name));
        }
    }

    @AfterEach
    void removeModel() throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            for (Path file : files.toList()) {
                Files.delete(file);
            }
        }
        Files.delete(folder);
    }

    private LanguageModel open(Io io) {
        var options = ModelOptions.builder().memory("700KiB").panel(4096).prefetch(1).io(io).build();
        try {
            return LanguageModel.open(folder.toString(), options);
        } catch (LaminaException e) {
            Assumptions.assumeFalse(String.valueOf(e.getMessage()).contains("refuses direct reads"), e.getMessage());
            throw e;
        }
    }

    private void happen(Fault fault) throws IOException {
        switch (fault) {
            case TRUNCATED -> {
                try (var file = new RandomAccessFile(weights.toFile(), "rw")) {
                    file.setLength(file.length() / 2);
                }
            }
            case WRITTEN_TO -> {
                try (var file = new RandomAccessFile(weights.toFile(), "rw")) {
                    file.seek(file.length() - 1);
                    file.write(1);
                }
                Files.setLastModifiedTime(weights, FileTime.from(Instant.EPOCH)); // whatever the clock's grain
            }
            case REPLACED -> Files.move(Files.copy(weights, folder.resolve("copy")), weights,
                    StandardCopyOption.ATOMIC_MOVE);
            case DELETED -> Files.delete(weights);
            case FOLDER_GONE -> Files.move(folder, gone());
        }
    }

    private Path gone() {
        return folder.resolveSibling(folder.getFileName() + "-gone");
    }

    @ParameterizedTest
    @EnumSource(value = Io.class, names = {"CHANNEL", "PREAD", "URING", "BUFFERED"})
    void isOneErrorThatNamesTheFileAndTheNextModelWorks(Io io) throws IOException {
        if (io == Io.URING) {
            Rings.assume();
        }
        List<Integer> expected;
        try (var model = open(io)) {
            expected = model.generate(PROMPT, GREEDY).ids();
        }
        for (var fault : Fault.values()) {
            try (var model = open(io)) {
                var error = assertThrows(LaminaException.class,
                        () -> model.generate(PROMPT, GREEDY, inTheMiddleOfSweep(2, fault)));
                assertTrue(error.getMessage().startsWith(weights + ": "), error.getMessage());
                assertTrue(error.getMessage().matches(fault.message), fault + ": " + error.getMessage());
                assertFalse(error.getMessage().contains("\n"));
                // the model is as it was, and its file is not: the next call says so too
                assertThrows(LaminaException.class, () -> model.generate(PROMPT, GREEDY));
            } // closing the device fails if any memory was not returned
            assertFalse(Thread.getAllStackTraces().keySet().stream()
                    .anyMatch(thread -> thread.getName().startsWith("lamina-")));
            if (fault == Fault.FOLDER_GONE) {
                Files.move(gone(), folder);
            }
            Files.copy(MODEL.resolve("model.safetensors"), weights, StandardCopyOption.REPLACE_EXISTING);
            try (var model = open(io)) {
                assertEquals(expected, model.generate(PROMPT, GREEDY).ids());
            }
        }
    }

    @ParameterizedTest
    @EnumSource(value = Io.class, names = {"CHANNEL", "PREAD", "BUFFERED"})
    void noWrongLogitsAreHandedOutBeforeTheError(Io io) throws IOException {
        int[] ids = {3, 4, 5, 6};
        var right = new ArrayList<FloatBuffer>();
        try (var model = open(io)) {
            model.logits(ids, (row, rows, column, columns, values) -> right.add(copy(values)));
        }
        var taken = new ArrayList<FloatBuffer>();
        try (var model = open(io)) {
            assertThrows(LaminaException.class, () -> model.logits(ids, (row, rows, column, columns, values) -> {
                taken.add(copy(values));
                if (taken.size() == 1) {
                    overwrite();
                }
            }));
        }
        assertTrue(taken.size() < right.size(), taken.size() + " blocks");
        assertEquals(right.subList(0, taken.size()), taken);
    }

    private static FloatBuffer copy(FloatBuffer values) {
        return FloatBuffer.allocate(values.remaining()).put(values).flip();
    }

    private void overwrite() {
        try (var file = new RandomAccessFile(weights.toFile(), "rw")) {
            file.write(new byte[(int) file.length()]);
            Files.setLastModifiedTime(weights, FileTime.from(Instant.EPOCH));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private GenerationListener inTheMiddleOfSweep(long sweep, Fault fault) {
        return new GenerationListener() {
            private boolean happened;

            @Override
            public void text(String piece) {}

            @Override
            public void progress(SweepProgress progress) {
                if (!happened && progress.sweep() == sweep && progress.bytesDone() > progress.bytesTotal() / 2) {
                    happened = true;
                    try {
                        happen(fault);
                    } catch (IOException e) {
                        throw new UncheckedIOException(e);
                    }
                }
            }
        };
    }
}
