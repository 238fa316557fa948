package dev.lamina.cli;

import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.LogitsConsumer;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.FileErrors;
import dev.lamina.internal.checkpoint.SafetensorsLayout;
import dev.lamina.internal.checkpoint.SafetensorsWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParentCommand;

/** {@code lamina logits}. */
@Command(
        name = "logits",
        description = "Writes the logits of every token of sequences: float32 tensors logits.0, logits.1, ... of shape "
                + "(tokens, vocabulary), one for each --ids.",
        footer = {
            "",
            "Example:",
            "  lamina logits --model models/Qwen2.5-0.5B --ids 785,6722,315,9625 --ids 9707 --out logits.safetensors"
        })
final class LogitsCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Mixin
    private ModelFolder folder;

    @Option(names = "--ids", paramLabel = "ID,...", required = true, converter = TokenIds.Converter.class,
            description = "Token ids of a sequence. May be repeated.")
    private List<TokenIds> sequences;

    @Option(names = "--out", paramLabel = "FILE", required = true, description = "The safetensors file to write.")
    private Path out;

    @Mixin
    private EngineOptions engine;

    @Override
    public Integer call() {
        var modelOptions = engine.options();
        var parent = out.toAbsolutePath().getParent();
        if (parent == null || !Files.isDirectory(parent)) {
            throw new LaminaException("cannot write " + out + ": there is no folder " + parent);
        }
        try (var model = folder.open(modelOptions)) {
            main.terminal().interrupts().check();
            main.terminal().interrupts().onSignal(model::cancel);
            write(model);
        } catch (IOException e) {
            throw FileErrors.explain("cannot write " + out, e);
        } catch (UncheckedIOException e) {
            throw FileErrors.explain("cannot write " + out, e.getCause());
        } finally {
            main.terminal().interrupts().onSignal(null);
        }
        return main.terminal().interrupts().exitStatus();
    }

    private void write(LanguageModel model) throws IOException {
        long vocabulary = model.info().vocabulary();
        var tensors = new ArrayList<SafetensorsLayout.Entry>();
        for (var sequence : sequences) {
            tensors.add(new SafetensorsLayout.Entry("logits." + tensors.size(), DType.F32,
                    List.of((long) sequence.ids().size(), vocabulary)));
        }
        try (var writer = SafetensorsWriter.create(out, SafetensorsLayout.packed(tensors))) {
            for (int i = 0; i < sequences.size(); i++) {
                main.terminal().interrupts().check();
                model.logits(sequences.get(i).toArray(), new Rows(writer, i, vocabulary));
            }
            main.terminal().interrupts().check();
            writer.commit();
        }
    }

    /** Writes blocks of a (tokens, vocabulary) matrix to their places, row by row. */
    private record Rows(SafetensorsWriter writer, int tensor, long vocabulary) implements LogitsConsumer {
        @Override
        public void accept(int firstRow, int rows, int firstColumn, int columns, FloatBuffer values) {
            var row = ByteBuffer.allocateDirect(Math.multiplyExact(columns, Float.BYTES))
                    .order(ByteOrder.LITTLE_ENDIAN);
            try {
                for (int i = 0; i < rows; i++) {
                    row.clear().asFloatBuffer().put(values.slice(i * columns, columns));
                    writer.write(tensor, ((firstRow + i) * vocabulary + firstColumn) * Float.BYTES, row);
                }
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }
}
