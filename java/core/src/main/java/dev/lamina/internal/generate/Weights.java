package dev.lamina.internal.generate;

import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.model.Architectures;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.KvLayout;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.stream.DataFile;
import dev.lamina.internal.stream.IoMode;
import dev.lamina.internal.stream.RowTable;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The weights of an opened model: its program, its open files, the panels that it was cut into, and the vectors, which
 * are in memory.
 *
 * @param files opened files, by number
 * @param numbers the number of each file
 * @param kv what its KV caches hold
 */
record Weights(
        Checkpoint checkpoint,
        Program program,
        List<DataFile> files,
        Map<Path, Integer> numbers,
        Schedule schedule,
        ActivationPlan plan,
        Vectors vectors,
        RowTable table,
        DType embeddingType,
        KvLayout kv) implements AutoCloseable {

    /**
     * Opens the files that a model's program uses, and reads its vectors.
     *
     * @param memory bytes that Lamina may hold
     * @param askedPanel most bytes of a panel as the user asked; 0: chosen
     * @param halfKv whether KV caches are f16
     */
    static Weights open(Checkpoint checkpoint, ModelConfig config, Device device, Queue queue, IoMode mode, long memory,
            long askedPanel, boolean halfKv) throws IOException {
        var program = Architectures.program(config, checkpoint);
        var opened = new LinkedHashMap<Path, DataFile>();
        try {
            var numbers = new LinkedHashMap<Path, Integer>();
            for (var stage : program.stages()) {
                for (var name : stage.tensors()) {
                    for (var part : checkpoint.tensor(name).parts()) {
                        var path = part.file();
                        if (!opened.containsKey(path)) {
                            numbers.put(path, numbers.size());
                            opened.put(path, DataFile.open(path, mode, checkpoint.checksums(path)));
                        }
                    }
                }
            }
            long panel = askedPanel > 0
                    ? askedPanel
                    : Schedule.defaultPanel(memory, Schedule.weightBytes(program, checkpoint));
            var schedule = Schedule.of(program, checkpoint, numbers, panel);
            var embedding = checkpoint.tensor(program.embedding());
            var table = table(embedding, program.tokens(), numbers);
            var plan = ActivationPlan.of(program, schedule.logitsColumns());
            var files = List.copyOf(opened.values());
            var vectors = Vectors.load(device, queue, program, checkpoint, files, numbers);
            return new Weights(checkpoint, program, files, Map.copyOf(numbers), schedule, plan, vectors, table,
                    embedding.dtype(), kvLayout(program, halfKv));
        } catch (IOException | RuntimeException e) {
            closeAll(opened);
            throw e;
        }
    }

    private static RowTable table(Tensor embedding, int tokens, Map<Path, Integer> numbers) {
        long rowBytes = embedding.bytes() / tokens;
        var parts = new ArrayList<RowTable.Part>();
        long firstRow = 0;
        for (var part : embedding.parts()) {
            long rows = part.bytes() / rowBytes;
            parts.add(new RowTable.Part(numbers.get(part.file()), part.offset(), firstRow, rows));
            firstRow += rows;
        }
        return new RowTable(rowBytes, parts);
    }

    private static KvLayout kvLayout(Program program, boolean half) {
        var layers = new ArrayList<KvLayout.Layer>();
        for (var shape : program.kv()) {
            layers.add(new KvLayout.Layer(shape.heads(), shape.headDim(), shape.headDimV()));
        }
        return new KvLayout(List.copyOf(layers), half);
    }

    private static void closeAll(Map<Path, DataFile> files) throws IOException {
        for (var file : files.values()) {
            file.close();
        }
    }

    /** Numbers in all tensors that the program uses. */
    long parameters() {
        long count = 0;
        for (var stage : program.stages()) {
            for (var name : stage.tensors()) {
                var tensor = checkpoint.tensor(name);
                count += tensor.bytes() / tensor.dtype().bytes();
            }
        }
        return count;
    }

    @Override
    public void close() throws IOException {
        vectors.close();
        for (var file : files) {
            file.close();
        }
    }
}
