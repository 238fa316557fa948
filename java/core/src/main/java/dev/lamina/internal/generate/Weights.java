package dev.lamina.internal.generate;

import dev.lamina.LaminaException;
import dev.lamina.ModelOptions;
import dev.lamina.Rates;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DType;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.generate.Schedule.ExpertPanel;
import dev.lamina.internal.model.Architectures;
import dev.lamina.internal.model.ModelConfig;
import dev.lamina.internal.model.Op;
import dev.lamina.internal.model.Predictions;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.model.Stage;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.runtime.KvLayout;
import dev.lamina.internal.stream.DataFile;
import dev.lamina.internal.stream.DiskRate;
import dev.lamina.internal.stream.DriveProbe;
import dev.lamina.internal.stream.RowTable;
import dev.lamina.internal.stream.StreamOptions;
import dev.lamina.internal.telemetry.PanelMap;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * The weights of an opened model: its program, its open files, the panels that it was cut into, and the vectors, which
 * are in memory.
 *
 * @param files opened files, by number
 * @param readings how they are read, by folder of the checkpoint
 * @param numbers the number of each file
 * @param kv what its KV caches hold
 * @param ranks the devices that compute, and their parts
 * @param rankOfStage the number of the rank of each stage
 * @param onDevice whether panels are read straight into the memory of the one device
 * @param predicted whether the experts that rows choose next are predicted, and read ahead
 */
record Weights(
        Checkpoint checkpoint,
        Program program,
        List<DataFile> files,
        List<DriveProbe.Choice> readings,
        Map<Path, Integer> numbers,
        Schedule schedule,
        ActivationPlan plan,
        List<Rank> ranks,
        int[] rankOfStage,
        RowTable table,
        DType embeddingType,
        KvLayout kv,
        boolean onDevice,
        boolean predicted) implements AutoCloseable {

    /** A probe of the drive may take this share of the memory, which nothing else has yet. */
    private static final int PROBE_IN_MEMORY = 2;

    /**
     * Opens the files that a model's program uses, and reads its vectors.
     *
     * @param processors the devices that compute; they stay the caller's
     * @param options how they are read, what KV caches hold, and whether experts are predicted
     * @param memory bytes that Lamina may hold
     * @param askedPanel most bytes of a panel; 0: chosen
     */
    static Weights open(Checkpoint checkpoint, ModelConfig config, List<Processor> processors, ModelOptions options,
            MemoryUse memory, long askedPanel) throws IOException {
        boolean onDevice = options.io() == ModelOptions.Io.GDS;
        if (onDevice && (processors.size() > 1 || processors.getFirst().device().info().unified())) {
            throw new LaminaException("--io gds reads into the memory of one GPU: name it with --device, such as "
                    + "cuda:0, or leave --io out.");
        }
        var described = Architectures.program(config, checkpoint);
        var program = options.predictExperts() ? Predictions.addedTo(described) : described;
        if (onDevice && program.ops().anyMatch(Op.Experts.class::isInstance)) {
            throw new LaminaException("--io gds does not read experts that are chosen while the model computes: leave it"
                    + " out for mixtures.");
        }
        var opened = new LinkedHashMap<Path, DataFile>();
        var ranks = new ArrayList<Rank>();
        try {
            var readings = readings(checkpoint, onDevice ? ModelOptions.Io.PREAD : options.io(),
                    processors.getFirst().device(), memory.host());
            var numbers = new LinkedHashMap<Path, Integer>();
            for (var stage : program.stages()) {
                for (var name : stage.tensors()) {
                    for (var part : checkpoint.tensor(name).parts()) {
                        var path = part.file();
                        if (!opened.containsKey(path)) {
                            numbers.put(path, numbers.size());
                            int folder = checkpoint.folder(path);
                            var file = DataFile.open(path, readings.get(folder).method().mode(), folder,
                                    checkpoint.checksums(path));
                            opened.put(path, file);
                            if (onDevice) {
                                openOn(processors.getFirst().device(), file);
                            }
                        }
                    }
                }
            }
            long panel = Division.panelBytes(memory, askedPanel, Schedule.weightBytes(program, checkpoint));
            var rankOfStage = Rank.ofStages(program, checkpoint, processors.size());
            var schedule = Schedule.of(program, checkpoint, numbers, panel, rankOfStage);
            var embedding = checkpoint.tensor(program.embedding());
            var table = table(embedding, program.tokens(), numbers);
            var plan = ActivationPlan.of(program, schedule.logitsColumns());
            var files = List.copyOf(opened.values());
            var kv = kvLayout(program, options.kv() == ModelOptions.KvType.F16);
            for (int rank = 0; rank < processors.size(); rank++) {
                int first = Rank.firstLayer(program, rankOfStage, rank);
                int layers = Rank.firstLayer(program, rankOfStage, rank + 1) - first;
                var processor = processors.get(rank);
                long room = memory.devices().isEmpty() ? memory.host() : memory.devices().get(rank);
                var vectors = Vectors.load(processor, processor.device(), program, checkpoint, files, numbers, room);
                try {
                    int number = rank;
                    var products = IntStream.range(0, rankOfStage.length)
                            .filter(stage -> rankOfStage[stage] == number)
                            .mapToObj(program.stages()::get).flatMap(Stage::predictionProducts).toList();
                    var routers = RouterWeights.load(processor, products, checkpoint, files, numbers,
                            room - vectors.bytes());
                    ranks.add(new Rank(processor, vectors, routers, kv.range(first, layers), first));
                } catch (Throwable e) {
                    vectors.close();
                    throw e;
                }
            }
            return new Weights(checkpoint, program, files, readings, Map.copyOf(numbers), schedule, plan,
                    List.copyOf(ranks), rankOfStage, table, embedding.dtype(), kv, onDevice,
                    schedule.choices().stream().anyMatch(choice -> !choice.prediction().isEmpty()));
        } catch (Throwable e) {
            try {
                closeAll(ranks, opened.values());
            } catch (Throwable closing) {
                e.addSuppressed(closing);
            }
            throw e;
        }
    }

    private static void openOn(Device device, DataFile file) throws IOException {
        try {
            file.openOn(device);
        } catch (UnsupportedOperationException e) {
            throw new LaminaException("--io gds cannot read " + file.path() + ": " + e.getMessage()
                    + ". Leave --io out: then it is read into host memory and copied.", e);
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

    private static List<DriveProbe.Choice> readings(Checkpoint checkpoint, ModelOptions.Io io, Device device,
            long memory) throws IOException {
        var answers = Device.cacheFolder().resolve(DriveProbe.FILE_NAME);
        var probe = new DriveProbe(device, memory / PROBE_IN_MEMORY, answers);
        try {
            var readings = new ArrayList<DriveProbe.Choice>();
            var drives = new ArrayList<String>();
            for (int folder = 0; folder < checkpoint.folders().size(); folder++) {
                readings.add(probe.choose(checkpoint.files(folder), io, false));
                drives.add(DriveProbe.drive(checkpoint.folders().get(folder)));
            }
            for (int folder = 0; folder < drives.size(); folder++) { // one drive does not read twice as fast
                readings.set(folder,
                        readings.get(folder).shared(Collections.frequency(drives, drives.get(folder))));
            }
            return List.copyOf(readings);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new LaminaException("Interrupted while the drive of " + checkpoint.directory() + " was measured.", e);
        }
    }

    private static KvLayout kvLayout(Program program, boolean half) {
        var layers = new ArrayList<KvLayout.Layer>();
        for (var shape : program.kv()) {
            int places = shape.reach() == 0
                    ? 0
                    : (int) Math.min(Integer.MAX_VALUE, shape.reach() - 1L + Division.PREFILL_ROWS);
            layers.add(new KvLayout.Layer(KvLayout.Kind.valueOf(shape.kind().name()), shape.heads(), shape.headDim(),
                    shape.headDimV(), places));
        }
        return new KvLayout(List.copyOf(layers), half);
    }

    private static void closeAll(Collection<Rank> ranks, Collection<DataFile> files) {
        var all = new Closing();
        ranks.forEach(all::close);
        files.forEach(all::close);
        all.end();
    }

    /**
     * What is known of the rates of the drives and the processor without reading. Drives that share a bus may do less
     * together.
     */
    Rates rates() {
        var assumed = ranks.getFirst().unified() ? Rates.assumed() : Rates.assumedOfGpu();
        if (readings.stream().anyMatch(reading -> reading.bytesPerSecond() == 0)) {
            return assumed;
        }
        boolean measured = readings.stream().allMatch(reading -> reading.origin() == DriveProbe.Origin.MEASURED);
        var each = readings.stream().mapToDouble(DriveProbe.Choice::bytesPerSecond).toArray();
        return new Rates(together(each), measured ? Rates.Origin.MEASURED : Rates.Origin.REMEMBERED,
                assumed.busBytesPerSecond(), assumed.bus(), assumed.computeBytesPerSecond(), assumed.compute());
    }

    /** The rate of all drives: reading ends when the slowest has read its part. */
    private double together(double[] bytesPerSecond) {
        var bytes = new long[bytesPerSecond.length];
        for (var extent : schedule.cycle()) {
            bytes[files.get(extent.file()).drive()] += extent.bytes();
        }
        double seconds = 0;
        for (int drive = 0; drive < bytes.length; drive++) {
            seconds = Math.max(seconds, bytes[drive] / bytesPerSecond[drive]);
        }
        return schedule.denseBytes() / seconds;
    }

    /**
     * Measures the rate of all drives, at the same time: they may share a bus, or be one drive.
     *
     * @param maxBytes most bytes to read from each
     * @param maxSeconds most seconds to read
     * @return bytes per second
     */
    double measureDisk(long maxBytes, double maxSeconds, HostMemory memory) throws IOException, InterruptedException {
        var measuring = new ArrayList<FutureTask<DiskRate>>();
        var each = new double[readings.size()];
        Throwable failure = null;
        try {
            for (int folder = 0; folder < readings.size(); folder++) {
                var paths = checkpoint.files(folder);
                var method = readings.get(folder).method();
                var task = new FutureTask<>(() -> DiskRate.measure(paths, method, 0, maxBytes, maxSeconds, memory));
                Thread.ofPlatform().daemon().name("lamina-disk-rate").start(task);
                measuring.add(task);
            }
        } catch (Throwable e) { // such as a system that has no more threads
            failure = e;
        }
        InterruptedException interrupted = null;
        for (int folder = 0; folder < measuring.size();) { // whatever comes: they use memory of the caller's
            try {
                each[folder] = measuring.get(folder).get().bytesPerSecond();
                folder++;
            } catch (InterruptedException e) { // they end by themselves
                interrupted = e;
            } catch (ExecutionException e) {
                failure = failure == null ? e.getCause() : failure;
                folder++;
            }
        }
        if (interrupted != null) {
            throw interrupted;
        }
        if (failure != null) {
            throw new IOException(failure.getMessage() == null ? failure.toString() : failure.getMessage(), failure);
        }
        return together(each);
    }

    /** What each panel belongs to, those of experts last: its stage, and its file. */
    PanelMap panelMap() {
        var panels = schedule.panels();
        var experts = schedule.experts();
        return new PanelMap(
                program.stages().stream().map(Stage::name).toList(),
                IntStream.concat(IntStream.of(schedule.stages()), experts.stream().mapToInt(ExpertPanel::stage))
                        .toArray(),
                files.stream().map(file -> file.path().toString()).toList(),
                IntStream.concat(panels.stream().mapToInt(panel -> panel.extent().file()),
                        experts.stream().mapToInt(panel -> panel.extents().getFirst().file())).toArray(),
                table.parts().getFirst().file());
    }

    /** How to read: as many and as large requests to each drive as the one takes that takes the most. */
    StreamOptions streamOptions() {
        var options = StreamOptions.of(readings.getFirst().method());
        for (var reading : readings) {
            var method = reading.method();
            options = new StreamOptions(options.prefetch(), Math.max(options.readers(), method.readers()),
                    Math.max(options.depth(), method.depth()), Math.max(options.requestBytes(), method.requestBytes()),
                    options.rowCacheBytes(), options.bytesPerSecond());
        }
        return options;
    }

    /** How the files are read, for people. */
    String reading() {
        var host = readings.stream().map(DriveProbe.Choice::summary).distinct().collect(Collectors.joining("; "));
        return onDevice ? "gds, straight into the GPU's memory; embedding rows: " + host : host;
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
    public void close() {
        closeAll(ranks, files);
    }
}
