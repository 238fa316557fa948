package dev.lamina.internal.generate;

import dev.lamina.LaminaException;
import dev.lamina.ModelOptions;
import dev.lamina.Rates;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.model.Architectures;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.KvLayout;
import dev.lamina.internal.runtime.Queue;
import dev.lamina.internal.stream.DataFile;
import dev.lamina.internal.stream.DriveProbe;
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
 * @param reading how they are read
 * @param numbers the number of each file
 * @param kv what its KV caches hold
 */
record Weights(
        Checkpoint checkpoint,
        Program program,
        List<DataFile> files,
        DriveProbe.Choice reading,
        Map<Path, Integer> numbers,
        Schedule schedule,
        ActivationPlan plan,
        Vectors vectors,
        RowTable table,
        DType embeddingType,
        KvLayout kv) implements AutoCloseable {

    /** A probe of the drive may take this share of the memory, which nothing else has yet. */
    private static final int PROBE_IN_MEMORY = 2;

    /**
     * Opens the files that a model's program uses, and reads its vectors.
     *
     * @param memory bytes that Lamina may hold
     * @param askedPanel most bytes of a panel as the user asked; 0: chosen
     * @param halfKv whether KV caches are f16
     */
    static Weights open(Checkpoint checkpoint, ModelConfig config, Device device, Queue queue, ModelOptions.Io io,
            long memory, long askedPanel, boolean halfKv) throws IOException {
        var program = Architectures.program(config, checkpoint);
        var opened = new LinkedHashMap<Path, DataFile>();
        try {
            var reading = reading(checkpoint, io, device, memory);
            var numbers = new LinkedHashMap<Path, Integer>();
            for (var stage : program.stages()) {
                for (var name : stage.tensors()) {
                    var path = checkpoint.tensor(name).file();
                    if (!opened.containsKey(path)) {
                        numbers.put(path, numbers.size());
                        opened.put(path, DataFile.open(path, reading.method().mode(), 0, checkpoint.checksums(path)));
                    }
                }
            }
            long panel = askedPanel > 0
                    ? askedPanel
                    : Schedule.defaultPanel(memory, Schedule.weightBytes(program, checkpoint));
            var schedule = Schedule.of(program, checkpoint, numbers, panel);
            var embedding = checkpoint.tensor(program.embedding());
            var table = RowTable.of(numbers.get(embedding.file()), embedding.offset(),
                    embedding.bytes() / program.tokens(), program.tokens());
            var plan = ActivationPlan.of(program, schedule.logitsColumns());
            var files = List.copyOf(opened.values());
            var vectors = Vectors.load(device, queue, program, checkpoint, files, numbers);
            return new Weights(checkpoint, program, files, reading, Map.copyOf(numbers), schedule, plan, vectors, table,
                    embedding.dtype(), kvLayout(program, halfKv));
        } catch (IOException | RuntimeException e) {
            closeAll(opened);
            throw e;
        }
    }

    private static DriveProbe.Choice reading(Checkpoint checkpoint, ModelOptions.Io io, Device device, long memory)
            throws IOException {
        var answers = Device.cacheFolder().resolve(DriveProbe.FILE_NAME);
        var probe = new DriveProbe(device, memory / PROBE_IN_MEMORY, answers);
        try {
            return probe.choose(checkpoint.files(), io, false);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new LaminaException("Interrupted while the drive of " + checkpoint.directory() + " was measured.", e);
        }
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

    /** What is known of the rates of the drive and the processor. */
    Rates rates() {
        var assumed = Rates.assumed();
        var origin = switch (reading.origin()) {
            case MEASURED -> Rates.Origin.MEASURED;
            case REMEMBERED -> Rates.Origin.REMEMBERED;
            case ASSUMED -> Rates.Origin.ASSUMED;
        };
        return reading.bytesPerSecond() > 0
                ? new Rates(reading.bytesPerSecond(), origin, assumed.computeBytesPerSecond(), assumed.compute())
                : assumed;
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
