package dev.lamina.internal.checkpoint;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** Makes files as {@code torch.save} does, without the code under test. The bytes were compared with PyTorch 2.13's. */
public final class TorchFiles {
    static final Map<DType, String> STORAGES = Map.ofEntries(
            Map.entry(DType.F32, "FloatStorage"), Map.entry(DType.F16, "HalfStorage"),
            Map.entry(DType.BF16, "BFloat16Storage"), Map.entry(DType.F64, "DoubleStorage"),
            Map.entry(DType.I64, "LongStorage"), Map.entry(DType.I32, "IntStorage"),
            Map.entry(DType.I16, "ShortStorage"), Map.entry(DType.I8, "CharStorage"),
            Map.entry(DType.U8, "ByteStorage"), Map.entry(DType.BOOL, "BoolStorage"),
            Map.entry(DType.C64, "ComplexFloatStorage"));

    /** A tensor with a storage of its own. */
    public record Weight(String name, DType dtype, List<Long> shape, byte[] content) {}

    private TorchFiles() {}

    /** Returns the strides of a tensor whose rows lie one after the other. */
    static List<Long> strides(List<Long> shape) {
        List<Long> strides = new ArrayList<>();
        long stride = 1;
        for (long dimension : shape.reversed()) {
            strides.addFirst(stride);
            stride *= Math.max(1, dimension);
        }
        return strides;
    }

    /** Returns the pickle of a dictionary of tensors: storage i is that of weight i. */
    static byte[] pickle(List<Weight> weights) {
        PickleWriter pickle = new PickleWriter().op('}').put();
        putWeights(pickle, weights);
        return pickle.op('.').bytes();
    }

    /** Writes tensors as items of the dictionary written last. */
    static void putWeights(PickleWriter pickle, List<Weight> weights) {
        if (weights.size() > 1) {
            pickle.op('(');
        }
        for (int i = 0; i < weights.size(); i++) {
            Weight weight = weights.get(i);
            pickle.text(weight.name()).tensor(STORAGES.get(weight.dtype()), "" + i,
                    weight.content().length / weight.dtype().bytes(), 0, weight.shape(), strides(weight.shape()));
        }
        if (!weights.isEmpty()) {
            pickle.op(weights.size() > 1 ? 'u' : 's');
        }
    }

    /** Adds what goes into a file with a pickle, and with these storages. */
    static ZipWriter fill(ZipWriter zip, String folder, byte[] pickle, List<byte[]> storages) {
        zip.add(folder + "/data.pkl", pickle)
                .add(folder + "/.format_version", new byte[] {'1'})
                .add(folder + "/.storage_alignment", "64".getBytes(StandardCharsets.US_ASCII))
                .add(folder + "/byteorder", "little".getBytes(StandardCharsets.US_ASCII));
        for (int i = 0; i < storages.size(); i++) {
            zip.add(folder + "/data/" + i, storages.get(i));
        }
        return zip.add(folder + "/version", "3\n".getBytes(StandardCharsets.US_ASCII))
                .add(folder + "/.data/serialization_id", new byte[40]);
    }

    static byte[] file(byte[] pickle, byte[]... storages) {
        return fill(ZipWriter.likeTorch(), "archive", pickle, List.of(storages)).bytes();
    }

    static byte[] file(List<Weight> weights) {
        return fill(ZipWriter.likeTorch(), "archive", pickle(weights),
                weights.stream().map(Weight::content).toList()).bytes();
    }

    /** Writes tensors into a file. */
    public static void write(Path file, List<Weight> weights) throws IOException {
        Files.write(file, file(weights));
    }

    /** Writes U8 tensors with the given contents. */
    public static void write(Path file, Map<String, byte[]> tensors) throws IOException {
        write(file, weights(tensors));
    }

    private static List<Weight> weights(Map<String, byte[]> tensors) {
        return tensors.entrySet().stream()
                .map(entry -> new Weight(entry.getKey(), DType.U8, List.of((long) entry.getValue().length),
                        entry.getValue()))
                .toList();
    }

    /** Writes U8 tensors and, as trainers do, a number beside them. */
    public static void writeWithNumber(Path file, Map<String, byte[]> tensors, String name) throws IOException {
        PickleWriter pickle = new PickleWriter().op('}').put();
        putWeights(pickle, weights(tensors));
        Files.write(file, file(pickle.text(name).whole(1000).op('s', '.').bytes(),
                tensors.values().toArray(byte[][]::new)));
    }

    /** Writes U8 tensors that all are one storage. */
    public static void writeTied(Path file, List<String> names, byte[] content) throws IOException {
        PickleWriter pickle = new PickleWriter().op('}').put().op('(');
        List<Long> shape = List.of((long) content.length);
        names.forEach(name -> pickle.text(name).tensor("ByteStorage", "0", content.length, 0, shape, strides(shape)));
        Files.write(file, file(pickle.op('u', '.').bytes(), content));
    }

    /** Writes files of U8 tensors and the index that names them. */
    public static void writeIndexed(Path folder, Map<String, Map<String, byte[]>> files) throws IOException {
        Map<String, String> fileOf = new LinkedHashMap<>();
        for (var file : files.entrySet()) {
            write(folder.resolve(file.getKey()), file.getValue());
            file.getValue().keySet().forEach(name -> fileOf.put(name, file.getKey()));
        }
        writeIndex(folder, fileOf);
    }

    static void writeIndex(Path folder, Map<String, String> fileOf) throws IOException {
        Files.writeString(folder.resolve("pytorch_model.bin.index.json"), fileOf.entrySet().stream()
                .map(entry -> "\"" + entry.getKey() + "\":\"" + entry.getValue() + "\"")
                .collect(Collectors.joining(",", "{\"metadata\":{\"total_size\":1},\"weight_map\":{",
                        "}}")));
    }

    /** Copies a model's folder and writes its weights as files of PyTorch, as many as before. */
    public static void convert(Path model, Path target) throws IOException {
        Checkpoint checkpoint = Checkpoint.open(model);
        UnaryOperator<String> rename = name -> name.replace("model", "pytorch_model").replace(".safetensors", ".bin");
        Files.createDirectories(target);
        try (Stream<Path> entries = Files.list(model)) {
            for (Path file : (Iterable<Path>) entries::iterator) {
                String name = file.getFileName().toString();
                if (!name.startsWith("model")) {
                    Files.copy(file, target.resolve(name));
                }
            }
        }
        Map<String, String> fileOf = new LinkedHashMap<>();
        for (Path file : checkpoint.files()) {
            String name = rename.apply(file.getFileName().toString());
            List<Weight> weights = new ArrayList<>();
            for (Tensor tensor : checkpoint.tensors()) {
                if (tensor.file().equals(file)) {
                    weights.add(new Weight(tensor.name(), tensor.dtype(), tensor.shape(),
                            SafetensorsFiles.content(tensor)));
                    fileOf.put(tensor.name(), name);
                }
            }
            write(target.resolve(name), weights);
        }
        if (checkpoint.files().size() > 1) {
            writeIndex(target, fileOf);
        }
    }
}
