package dev.lamina.internal.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
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
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

@Timeout(value = 10, unit = TimeUnit.MINUTES)
class TorchFileTest {
    private static final List<Long> SIX = List.of(2L, 3L);
    private static final List<Long> ROWS = List.of(3L, 1L);

    @TempDir(factory = FastDisk.class)
    Path folder;

    private Path write(byte[] content) throws IOException {
        return Files.write(folder.resolve("pytorch_model.bin"), content);
    }

    private List<Tensor> read(byte[] content) throws IOException {
        return TorchFile.read(write(content)).tensors();
    }

    private void assertRefused(byte[] content, String reason) throws IOException {
        Path file = write(content);
        String message = assertThrows(LaminaException.class, () -> TorchFile.read(file)).getMessage();
        assertTrue(message.contains(reason), message);
        assertTrue(message.startsWith(file.toString()), message);
        assertTrue(message.length() < 600 && message.lines().count() == 1, message);
    }

    /** A dictionary, of which the caller writes the items. */
    private static PickleWriter dict() {
        return new PickleWriter().op('}').put();
    }

    /** A file of one F32 tensor "a", which the caller writes, and a storage "0" of six elements. */
    private static byte[] one(UnaryOperator<PickleWriter> value) {
        return TorchFiles.file(value.apply(dict().text("a")).op('s', '.').bytes(), bytes(24));
    }

    private static byte[] bytes(int count) {
        byte[] bytes = new byte[count];
        for (int i = 0; i < count; i++) {
            bytes[i] = (byte) (i * 7 + 1);
        }
        return bytes;
    }

    private static byte[] sample() {
        return TorchFiles.file(List.of(
                new TorchFiles.Weight("a", DType.F32, SIX, bytes(24)),
                new TorchFiles.Weight("b", DType.BF16, List.of(3L), bytes(6))));
    }

    @Test
    void readsOffsetsShapesAndTypes() throws IOException {
        List<Tensor> tensors = read(sample());
        assertEquals(List.of("a", "b"), tensors.stream().map(Tensor::name).toList());
        assertEquals(List.of(DType.F32, DType.BF16), tensors.stream().map(Tensor::dtype).toList());
        assertEquals(SIX, tensors.getFirst().shape());
        assertArrayEquals(bytes(24), SafetensorsFiles.content(tensors.getFirst()));
        assertArrayEquals(bytes(6), SafetensorsFiles.content(tensors.getLast()));
        assertNull(TorchFile.read(folder.resolve("pytorch_model.bin")).rest());
    }

    @Test
    void randomTensorsAreReadBack() throws IOException {
        Random random = new Random(3);
        List<DType> dtypes = TorchFiles.STORAGES.keySet().stream().sorted().toList();
        for (int round = 0; round < 150; round++) {
            List<TorchFiles.Weight> weights = new ArrayList<>();
            for (int i = random.nextInt(round == 0 ? 1 : 60); i > 0; i--) {
                DType dtype = dtypes.get(random.nextInt(dtypes.size()));
                List<Long> shape = random.longs(random.nextInt(5), 0, 9).boxed().toList();
                long elements = shape.stream().mapToLong(n -> n).reduce(1, Math::multiplyExact);
                byte[] content = new byte[Math.toIntExact(dtype.bytes() * elements)];
                random.nextBytes(content);
                weights.add(new TorchFiles.Weight("t\u00e9/" + i, dtype, shape, content));
            }
            Collections.shuffle(weights, random);
            ZipWriter zip = new ZipWriter(random.nextBoolean(), random.nextBoolean());
            String name = random.nextBoolean() ? "archive" : "a b-\u00fc";
            byte[] file = TorchFiles.fill(zip, name, TorchFiles.pickle(weights), weights.stream()
                    .map(TorchFiles.Weight::content).toList()).bytes();
            List<Tensor> tensors = read(file);
            assertEquals(weights.size(), tensors.size());
            long end = 0;
            for (Tensor tensor : tensors) {
                assertTrue(tensor.offset() >= end);
                end = tensor.offset();
                var weight = weights.stream().filter(each -> each.name().equals(tensor.name())).findFirst()
                        .orElseThrow();
                assertEquals(weight.dtype(), tensor.dtype());
                assertEquals(weight.shape(), tensor.shape());
                assertArrayEquals(weight.content(), SafetensorsFiles.content(tensor));
            }
        }
    }

    @Test
    void tensorsShareAStorage() throws IOException {
        byte[] pickle = dict().op('(')
                .text("whole").tensor("FloatStorage", "0", 6, 0, SIX, ROWS)
                .text("tied").tensor("FloatStorage", "0", 6, 0, SIX, ROWS)
                .text("row").tensor("FloatStorage", "0", 6, 3, List.of(3L), List.of(1L))
                .text("scalar").tensor("FloatStorage", "0", 6, 5, List.of(), List.of())
                .text("column").tensor("FloatStorage", "0", 6, 2, List.of(1L, 1L), List.of(99L, 3L))
                .text("empty").tensor("FloatStorage", "0", 6, 6, List.of(0L, 3L), List.of(7L, 7L))
                .op('u', '.').bytes();
        List<Tensor> tensors = read(TorchFiles.file(pickle, bytes(24)));
        long start = tensors.getFirst().offset();
        assertEquals(List.of("whole 0 24", "tied 0 24", "column 8 4", "row 12 12", "scalar 20 4", "empty 24 0").stream()
                        .sorted().toList(),
                tensors.stream().map(each -> each.name() + " " + (each.offset() - start) + " " + each.bytes()).sorted()
                        .toList());
    }

    @Test
    void readsWhatModulesAndParametersAdd() throws IOException {
        PickleWriter pickle = new PickleWriter().emptyOrderedDict().op('(').text("a")
                .global("torch._utils", "_rebuild_parameter").tensor("FloatStorage", "0", 6, 0, SIX, ROWS)
                .op(0x88).emptyOrderedDict().op(0x87).put().op('R').put()
                .text("_extra_state").op('N')
                .op('u').op('}').put().text("_metadata").emptyOrderedDict().op('(')
                .text("").op('}').put().text("version").whole(1).op('s', 'u', 's', 'b', '.');
        Path file = write(TorchFiles.file(pickle.bytes(), bytes(24)));
        assertEquals(List.of("a"), TorchFile.read(file).tensors().stream().map(Tensor::name).toList());
        assertEquals("'_extra_state'", TorchFile.read(file).rest());
    }

    @Test
    void readsVersionFourAndTheOldestFunction() throws IOException {
        PickleWriter writer = new PickleWriter();
        writer.op(0x95, 0, 0, 0, 0, 0, 0, 0, 0).op('}', 0x94, 0x8c, 1, 'a', 0x94)
                .op(0x8c, 12).raw("torch._utils".getBytes(StandardCharsets.US_ASCII))
                .op(0x8c, 15).raw("_rebuild_tensor".getBytes(StandardCharsets.US_ASCII)).op(0x93, 0x94, '(', '(')
                .op(0x8c, 7).raw("storage".getBytes(StandardCharsets.US_ASCII))
                .op('c').raw("torch\nFloatStorage\n".getBytes(StandardCharsets.US_ASCII))
                .op(0x8c, 1, '0', 0x8c, 3, 'c', 'p', 'u', 'K', 6, 't', 'Q')
                .op('K', 0, 'K', 2, 'K', 3, 0x86, 'K', 3, 'K', 1, 0x86, 't', 'R', 's', '.');
        byte[] bytes = writer.bytes();
        bytes[1] = 4;
        assertEquals(SIX, read(TorchFiles.file(bytes, bytes(24))).getFirst().shape());
    }

    @Test
    void readsTheUntypedStoragesOfNewerTypes() throws IOException {
        byte[] file = one(pickle -> pickle.global("torch._utils", "_rebuild_tensor_v3").op('(')
                .storage("torch.storage", "UntypedStorage", "0", 24).whole(4).wholes(List.of(8L)).wholes(List.of(1L))
                .op(0x89).emptyOrderedDict().global("torch", "uint16").op('t', 'R'));
        Tensor tensor = read(file).getFirst();
        assertEquals(DType.U16, tensor.dtype());
        assertArrayEquals(Arrays.copyOfRange(bytes(24), 8, 24), SafetensorsFiles.content(tensor));
    }

    @ParameterizedTest
    @ValueSource(strings = {"state_dict", "model", "module"})
    void looksIntoWhatTrainersWrite(String wrapper) throws IOException {
        PickleWriter pickle = dict().op('(').text("epoch").whole(3).text(wrapper).op('}').put().text("a")
                .tensor("FloatStorage", "0", 6, 0, SIX, ROWS).op('s')
                .text("optimizer").op('}').put().whole(0).op('}').put().op('s')
                .text("l").op(']', '(', 'K', 1, ']', 'K', 2, 'a', 'e')
                .text("lr").op('G', 0, 0, 0, 0, 0, 0, 0, 0).text("huge").op(0x8a, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1)
                .op('u', '.');
        Path file = write(TorchFiles.file(pickle.bytes(), bytes(24)));
        assertEquals(List.of("a"), TorchFile.read(file).tensors().stream().map(Tensor::name).toList());
        assertEquals("'epoch'", TorchFile.read(file).rest());
        PickleWriter named = dict().whole(1).op('N', 's').text(wrapper).op('}', 's', '.');
        assertEquals("something without a name", TorchFile.read(write(TorchFiles.file(named.bytes()))).rest());
    }

    static Stream<Arguments> tensors() {
        UnaryOperator<PickleWriter> fine = pickle -> pickle.tensor("FloatStorage", "0", 6, 0, SIX, ROWS);
        return Stream.of(
                Arguments.of(fine, null),
                Arguments.of(tensor(6, 0, List.of(3L, 2L), List.of(1L, 3L)), "row by row"),
                Arguments.of(tensor(6, 0, List.of(2L, 2L), ROWS), "row by row"),
                Arguments.of(tensor(6, 0, List.of(6L), List.of(0L)), "row by row"),
                Arguments.of(tensor(6, 0, List.of(2L), List.of(-1L)), "row by row"),
                Arguments.of(tensor(6, 1, SIX, ROWS), "in a storage of 24"),
                Arguments.of(tensor(6, -1, List.of(1L), List.of(1L)), "in a storage of 24"),
                Arguments.of(tensor(6, 7, List.of(0L), List.of(1L)), "in a storage of 24"),
                Arguments.of(tensor(6, Long.MAX_VALUE, List.of(1L), List.of(1L)), "too large"),
                Arguments.of(tensor(6, 1L << 60, List.of(1L), List.of(1L)), "in a storage of 24"),
                Arguments.of(tensor(6, 0, List.of(7L), List.of(1L)), "in a storage of 24"),
                Arguments.of(tensor(6, 0, List.of(1L << 62, 4L), List.of(4L, 1L)), "too large"),
                Arguments.of(tensor(6, 0, List.of(1L << 62, 4L, 0L), List.of(1L, 1L, 1L)), "too large"),
                Arguments.of(tensor(6, 0, List.of(-2L, -3L), ROWS), "has the shape"),
                Arguments.of(tensor(6, 0, SIX, List.of(1L)), "not written as PyTorch"),
                Arguments.of(tensor(7, 0, SIX, ROWS), "of which the file holds 24"),
                Arguments.of(tensor(5, 0, SIX, ROWS), "of which the file holds 24"),
                Arguments.of(tensor(-6, 0, SIX, ROWS), "describes no storage"),
                Arguments.of(tensor(1L << 62, 0, SIX, ROWS), "with a storage of"),
                Arguments.of(tensor(6, 0, Collections.nCopies(33, 1L), Collections.nCopies(33, 1L)), "more than 32"),
                Arguments.of(on(p -> p.tensor("DoubleStorage", "0", 6, 0, SIX, ROWS)), "of which the file holds 24"),
                Arguments.of(on(p -> p.tensor("FloatStorage", "1", 6, 0, SIX, ROWS)), "'1', which is not there"),
                Arguments.of(on(p -> p.tensor("FloatStorage", "../version", 6, 0, SIX, ROWS)), "is not there"),
                Arguments.of(on(p -> p.tensor("FloatStorage", "k".repeat(1025), 6, 0, SIX, ROWS)), "no storage"),
                Arguments.of(on(p -> p.tensor("QInt8Storage", "0", 6, 0, SIX, ROWS)), "'torch.QInt8Storage'"),
                Arguments.of(on(p -> p.global("os", "system").text("id").op(0x85, 'R')), "'os.system'"),
                Arguments.of(on(p -> p.global("builtins", "eval").text("1").op(0x85, 'R')), "'builtins.eval'"),
                Arguments.of(on(p -> p.text("os").text("system").op(0x93).text("id").op(0x85, 'R')), "'os.system'"),
                Arguments.of(on(p -> p.global("torch._utils", "_rebuild_qtensor")), "_rebuild_qtensor"),
                Arguments.of(on(p -> p.op('i').raw("os\nsystem\n".getBytes(StandardCharsets.US_ASCII))), "0x69"),
                Arguments.of(on(p -> p.global("os\u001b[31m" + "s".repeat(900), "x")), "'os?[31m"),
                Arguments.of(on(p -> p.op(')', 0x81)), "instruction 0x81"),
                Arguments.of(on(p -> p.op('K', 1, ')', 'R')), "calls what cannot be called"),
                Arguments.of(on(p -> p.global("collections", "OrderedDict").op('K', 1, 'R')), "cannot be called"),
                Arguments.of(on(p -> p.global("collections", "OrderedDict").op(']', 0x85, 'R')), "not written"),
                Arguments.of(on(p -> p.global("torch._utils", "_rebuild_parameter").op('N', 'N', 'N', 0x87, 'R')),
                        "not written"),
                Arguments.of(on(p -> p.global("torch._utils", "_rebuild_tensor_v2").op(')', 'R')), "not written"),
                Arguments.of(on(p -> p.op('(').op('t', 'Q')), "describes no storage"),
                Arguments.of(on(p -> p.op('K', 1, 'Q')), "describes no storage"),
                Arguments.of(on(p -> p.storage("torch", "FloatStorage", "0", 6)), "something other than a tensor"),
                Arguments.of(on(p -> p.op(']')), "something other than a tensor"),
                Arguments.of(on(p -> p.op('}')), "something other than a tensor"),
                Arguments.of(on(p -> p.op('}').text("x").op('N', 's')), "something other than a tensor"),
                Arguments.of(conjugated(), "conjugated"));
    }

    private static UnaryOperator<PickleWriter> on(UnaryOperator<PickleWriter> value) {
        return value;
    }

    private static UnaryOperator<PickleWriter> tensor(long elements, long offset, List<Long> shape,
            List<Long> strides) {
        return pickle -> pickle.tensor("FloatStorage", "0", elements, offset, shape, strides);
    }

    private static UnaryOperator<PickleWriter> conjugated() {
        return pickle -> pickle.global("torch._utils", "_rebuild_tensor_v2").op('(')
                .storage("torch", "FloatStorage", "0", 6).whole(0).wholes(SIX).wholes(ROWS).op(0x89).emptyOrderedDict()
                .op('}').text("neg").op(0x88, 's', 't', 'R');
    }

    @ParameterizedTest
    @MethodSource("tensors")
    void refusesTensorsThatAreNotSound(UnaryOperator<PickleWriter> value, String reason) throws IOException {
        if (reason == null) {
            assertEquals(1, read(one(value)).size()); // so the others are refused for what differs
        } else {
            assertRefused(one(value), reason);
        }
    }

    static Stream<Arguments> pickles() {
        return Stream.of(
                Arguments.of(new PickleWriter().op('N', '.'), "no dictionary of tensors"),
                Arguments.of(new PickleWriter().tensor("FloatStorage", "0", 6, 0, SIX, ROWS).op('.'), "no dictionary"),
                Arguments.of(new PickleWriter(), "cut off"),
                Arguments.of(new PickleWriter().op('.'), "more values than there are"),
                Arguments.of(dict(), "cut off"),
                Arguments.of(dict().op('.', '.'), "ends too early"),
                Arguments.of(dict().op('N', '.'), "ends too early"),
                Arguments.of(new PickleWriter().op('(', '}', '.'), "ends too early"),
                Arguments.of(dict().op('(', '.'), "more values than there are"),
                Arguments.of(dict().op('u', '.'), "takes a mark"),
                Arguments.of(dict().op('s', '.'), "more values than there are"),
                Arguments.of(new PickleWriter().op('N', 'N', 's', '.'), "uses a value where there is none"),
                Arguments.of(dict().op('(', 'N', 'N', 's', '.'), "uses a value where there is none"),
                Arguments.of(dict().op('(', 'N', 'u', '.'), "no value"),
                Arguments.of(new PickleWriter().op('N', 'N', 'N', 's', '.'), "no dictionary"),
                Arguments.of(new PickleWriter().op('N', 'N', 'b', '.'), "no dictionary"),
                Arguments.of(dict().op('N', 'a', '.'), "no list"),
                Arguments.of(new PickleWriter().op('q', 0, '.'), "uses a value where there is none"),
                Arguments.of(dict().op('h', 9, '.'), "not there"),
                Arguments.of(dict().op('j', 255, 255, 255, 255, '.'), "not there"),
                Arguments.of(dict().op('X', 255, 255, 255, 127), "cut off"),
                Arguments.of(dict().op('X', 255, 255, 255, 255), "cut off"),
                Arguments.of(dict().op(0x8a, 255), "cut off"),
                Arguments.of(dict().op('X', 1, 0, 0, 0, 0xff), "not valid UTF-8"),
                Arguments.of(dict().op('c').raw(new byte[2000]), "name of more than"),
                Arguments.of(dict().op('c', 'o', 's'), "cut off"),
                Arguments.of(dict().op(0x8e), "instruction 0x8e"),
                Arguments.of(dict().op('N', 'N', 's', '.'), "no name"),
                Arguments.of(dict().text("n".repeat(1025)).op('N', 's', '.'), "no name"),
                Arguments.of(dict().op('(').text("x").op('N').text("x").op('N', 'u', '.'), "'x' twice"),
                Arguments.of(dict().text("__metadata__").tensor("FloatStorage", "0", 6, 0, SIX, ROWS).op('s', '.'),
                        "no tensor can have"),
                // containers that hold themselves: as a value, as a key, as an argument
                Arguments.of(dict().text("x").get(0).op('s', '.'), "something other than a tensor"),
                Arguments.of(dict().get(0).get(0).op('s', '.'), "no name"),
                Arguments.of(dict().text("model").get(0).op('s', '.'), "under 'model'"),
                Arguments.of(dict().op(']').put().get(1).op('a', 0x85).put().get(2).op('s', '.'), "no name"),
                Arguments.of(dict().global("torch._utils", "_rebuild_parameter").get(0).get(0).get(0)
                        .op(0x87, 'R', '.'), "not written"));
    }

    @ParameterizedTest
    @MethodSource("pickles")
    void refusesPicklesThatAreNotSound(PickleWriter pickle, String reason) throws IOException {
        assertRefused(TorchFiles.file(pickle.bytes(), bytes(24)), reason);
    }

    @Test
    void nestingCostsNothing() throws IOException {
        PickleWriter pickle = dict().text("x");
        for (int i = 0; i < 200_000; i++) {
            pickle.op(')', 0x85);
        }
        assertRefused(TorchFiles.file(pickle.op('s', '.').bytes()), "no dictionary");
        PickleWriter deep = dict().text("x").op(')');
        for (int i = 0; i < 500_000; i++) {
            deep.op(0x85);
        }
        assertRefused(TorchFiles.file(deep.op('s', '.').bytes()), "something other than a tensor");
        PickleWriter dicts = dict();
        for (int i = 0; i < 100_000; i++) {
            dicts.op('X', 1, 0, 0, 0, 'k', '}');
        }
        for (int i = 0; i < 100_000; i++) {
            dicts.op('s');
        }
        assertRefused(TorchFiles.file(dicts.op('.').bytes()), "something other than a tensor");
    }

    @Test
    void limitsWhatAPickleMakes() throws IOException {
        byte[] stack = new byte[TensorPickle.MAX_STACK + 10];
        Arrays.fill(stack, (byte) ']');
        assertRefused(TorchFiles.file(new PickleWriter().raw(stack).bytes()), "piles up");
        Arrays.fill(stack, (byte) '(');
        assertRefused(TorchFiles.file(new PickleWriter().raw(stack).bytes()), "marks");
        byte[] values = new byte[TensorPickle.MAX_VALUES + 10];
        for (int i = 0; i < values.length; i++) {
            values[i] = i % 2 == 0 ? (byte) ']' : (byte) 'a';
        }
        assertRefused(TorchFiles.file(new PickleWriter().op(']').raw(values).raw(values).bytes()),
                "more than " + TensorPickle.MAX_VALUES);
        Arrays.fill(values, (byte) 0x94);
        assertRefused(TorchFiles.file(dict().raw(values).bytes()), "more than " + TensorPickle.MAX_VALUES);
    }

    @Test
    void limitsTheSizeOfThePickle() throws IOException {
        byte[] pickle = new PickleWriter().bytes();
        assertRefused(TorchFiles.file(Arrays.copyOf(pickle, (int) TensorPickle.MAX_BYTES + 1)), "the limit is");
    }

    @Test
    void refusesOtherByteOrders() throws IOException {
        for (String order : List.of("big", "", "little endian, not")) {
            byte[] file = new ZipWriter(false, false).add("x/data.pkl", dict().op('.').bytes())
                    .add("x/byteorder", order.getBytes(StandardCharsets.US_ASCII)).bytes();
            assertRefused(file, "not little-endian");
        }
        // files from before PyTorch 2.1 have no entry for it
        assertEquals(List.of(), read(new ZipWriter(true, true).add("x/data.pkl", dict().op('.').bytes()).bytes()));
    }

    @Test
    void refusesFormatsBeforeTheZipFile() throws IOException {
        assertRefused(new byte[] {(byte) 0x80, 2, (byte) 0x8a, 10, 0x6c}, "before 1.6");
        byte[] tar = new byte[1024];
        System.arraycopy("ustar".getBytes(StandardCharsets.US_ASCII), 0, tar, 257, 5);
        assertRefused(tar, "before 1.6");
        assertRefused(new byte[0], "too few");
        assertRefused("version https://git-lfs.github.com/spec/v1\n".getBytes(StandardCharsets.US_ASCII),
                "no zip file");
    }

    @Test
    void refusesMissingFiles() {
        assertThrows(LaminaException.class, () -> TorchFile.read(folder));
        assertThrows(LaminaException.class, () -> TorchFile.read(folder.resolve("none.bin")));
    }

    // ---- the zip file

    private static byte[] patch(byte[] content, int position, int bytes, long value) {
        byte[] patched = content.clone();
        for (int i = 0; i < bytes; i++) {
            patched[position + i] = (byte) (value >> 8 * i);
        }
        return patched;
    }

    /** Where the directory says what an entry of {@link #sample} is. */
    private static int central(byte[] content, int entry) {
        ByteBuffer bytes = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN);
        int at = bytes.getInt(content.length - 6);
        for (int i = 0; i < entry; i++) {
            at += 46 + bytes.getShort(at + 28) + bytes.getShort(at + 30);
        }
        return at;
    }

    @Test
    void refusesEntriesThatAreNotStoredAsTheyAre() throws IOException {
        byte[] sample = sample();
        int entry = central(sample, 4);
        assertRefused(patch(sample, entry + 10, 2, 8), "is compressed");
        // a bomb: a few bytes that would become 4 GiB
        assertRefused(patch(patch(sample, entry + 10, 2, 8), entry + 24, 4, 0xfffffffeL), "is compressed");
        assertRefused(patch(sample, entry + 24, 4, 0xfffffffeL), "has 4294967294 bytes in 24");
        for (int flag : new int[] {1, 1 << 6, 1 << 13}) {
            assertRefused(patch(sample, entry + 8, 2, 0x808 | flag), "is encrypted");
        }
        assertRefused(patch(sample, entry + 8, 2, 0x828), "unknown flags");
    }

    @Test
    void refusesDirectoriesThatAreNotSound() throws IOException {
        byte[] plain = TorchFiles.fill(new ZipWriter(false, false), "x", dict().op('.').bytes(), List.of()).bytes();
        byte[] wide = TorchFiles.fill(new ZipWriter(false, true), "x", dict().op('.').bytes(), List.of()).bytes();
        int end = plain.length - 22;
        assertEquals(List.of(), read(plain));
        assertRefused(patch(plain, end + 8, 4, 0xffffffffL), "zip directory");
        assertRefused(patch(plain, end + 8, 4, 0x00040004L), "more in its zip directory");
        assertRefused(patch(plain, end + 8, 4, 0x00050004L), "several disks");
        assertRefused(patch(plain, end + 8, 4, 0x00090009L), "damaged");
        assertRefused(patch(plain, end + 4, 2, 1), "several disks");
        assertRefused(patch(plain, end + 20, 2, 1), "comment");
        assertRefused(patch(plain, end + 12, 4, 0xffffffffL), "not where it says");
        assertRefused(patch(plain, end + 16, 4, 0xffffffffL), "not where it says");
        assertRefused(patch(plain, end + 16, 4, 1), "not where it says");
        assertRefused(patch(plain, central(plain, 1), 4, 0), "damaged");
        assertRefused(patch(plain, central(plain, 1) + 28, 2, 0xffff), "damaged");
        assertRefused(patch(plain, central(plain, 1) + 34, 2, 1), "damaged");
        assertRefused(patch(plain, central(plain, 1) + 42, 4, 0xfffffff0L), "behind the end");
        assertRefused(patch(plain, central(plain, 1) + 42, 4, 1), "no local header");
        assertRefused(patch(plain, central(plain, 1) + 42, 4, 0xffffffffL), "lacks its zip64 field");
        assertRefused(patch(plain, central(plain, 1) + 46, 1, 0xff), "not valid UTF-8");
        assertRefused(patch(plain, central(plain, 1) + 46, 1, 'y'), "contradicts");
        int wideEnd = wide.length - 22 - 20 - 56;
        assertEquals(List.of(), read(wide));
        assertRefused(patch(wide, wideEnd + 24, 8, 1), "damaged");
        for (long count : new long[] {-1, Long.MIN_VALUE, ZipDirectory.MAX_ENTRIES + 1}) {
            byte[] counted = patch(patch(wide, wideEnd + 24, 8, count), wideEnd + 32, 8, count);
            assertRefused(counted, "contradict");
            assertRefused(patch(counted, wide.length - 14, 4, -1), "the limits are");
        }
        assertRefused(patch(wide, wideEnd + 4, 8, 45), "damaged");
        assertRefused(patch(wide, wideEnd + 16, 4, 1), "damaged");
        assertRefused(patch(wide, wideEnd + 48, 8, 1), "contradict");
        assertRefused(patch(wide, wideEnd + 56 + 8, 8, 1), "zip64 directory that is not where");
        assertRefused(patch(wide, wideEnd + 56 + 8, 8, Long.MAX_VALUE), "zip64 directory that is not where");
        assertRefused(patch(wide, wideEnd + 56 + 16, 4, 2), "zip64 directory that is not where");
        int extra = central(wide, 1) + 46 + "x/.format_version".length();
        assertRefused(patch(wide, extra + 2, 2, 25), "cut off");
        assertRefused(patch(wide, extra, 2, 2), "lacks its zip64 field");
        assertRefused(patch(wide, extra + 4, 8, -1), "18446744073709551615 bytes");
        assertRefused(patch(patch(wide, extra + 4, 8, 0), extra + 12, 8, 0), "contradicts");
        assertRefused(patch(wide, extra + 20, 8, Long.MAX_VALUE), "behind the end");
    }

    @Test
    void refusesLocalHeadersThatContradictTheDirectory() throws IOException {
        byte[] content = new ZipWriter(false, false).add("x/data.pkl", dict().op('.').bytes()).bytes();
        for (int field : new int[] {6, 8, 14, 18, 22, 26, 30}) {
            assertRefused(patch(content, field, 1, content[field] + 1), "contradicts");
        }
        assertRefused(patch(content, 28, 2, 0xffff), "behind the end");
    }

    @Test
    void refusesEntriesThatOverlap() throws IOException {
        byte[] inner = new ZipWriter(false, false).add("x/data/0", bytes(24)).bytes();
        ZipWriter zip = new ZipWriter(false, false).add("x/data.pkl", dict().op('.').bytes())
                .add("x/data/1", inner).add("x/data/0", bytes(24));
        byte[] content = zip.bytes();
        assertEquals(List.of(), read(content));
        int begin = (zip.start(1) + 30 + "x/data/1".length() + 4 + 63) & -64; // the local header within the other entry
        assertRefused(patch(content, central(content, 2) + 42, 4, begin), "overlaps the entry before it");
        assertRefused(patch(content, central(content, 2) + 42, 4, zip.start(1)), "contradicts");
        // one that goes on into the directory
        ZipWriter last = new ZipWriter(true, false).add("x/data.pkl", dict().op('.').bytes());
        byte[] ended = last.bytes();
        assertRefused(patch(patch(ended, central(ended, 0) + 20, 4, 40), central(ended, 0) + 24, 4, 40),
                "overlaps the directory");
        assertRefused(patch(patch(ended, central(ended, 0) + 20, 4, 4000), central(ended, 0) + 24, 4, 4000),
                "behind the end");
    }

    @Test
    void refusesNamesThatAreUsedTwiceOrMissing() throws IOException {
        byte[] pickle = dict().op('.').bytes();
        assertRefused(new ZipWriter(true, true).add("x/data.pkl", pickle).add("x/data.pkl", pickle).bytes(), "twice");
        assertRefused(new ZipWriter(true, true).add("x/data.pkl", pickle).add("y/data.pkl", pickle).bytes(),
                "two lists of tensors");
        for (String name : List.of("data.pkl", "x/y/data.pkl", "x/data_pkl", "")) {
            assertRefused(new ZipWriter(true, true).add(name, pickle).bytes(), "without data.pkl");
        }
        assertRefused(new ZipWriter(true, true).bytes(), "without data.pkl");
        assertRefused(new ZipWriter(true, true).add("x".repeat(1025), pickle).bytes(), "a name of 1025 bytes");
    }

    @Test
    void refusesEveryTruncation() throws IOException {
        byte[] content = sample();
        for (int length = 0; length < content.length; length++) {
            assertRefused(Arrays.copyOf(content, length), length < 22 ? "too few" : "does not end with");
        }
    }

    @Test
    void truncatedPicklesAreRefused() throws IOException {
        byte[] pickle = TorchFiles.pickle(List.of(new TorchFiles.Weight("a", DType.F32, SIX, bytes(24)),
                new TorchFiles.Weight("b", DType.F32, SIX, bytes(24))));
        for (int length = 0; length < pickle.length; length++) {
            assertRefused(TorchFiles.file(Arrays.copyOf(pickle, length), bytes(24), bytes(24)), "");
        }
    }

    @Test
    void bitFlipsAreReadSoundlyOrRefused() throws IOException {
        byte[] content = new ZipWriter(true, true).add("x/data/0", bytes(24)).add("x/data.pkl",
                dict().text("a").tensor("FloatStorage", "0", 6, 0, SIX, ROWS).op('s', '.').bytes()).bytes();
        int refused = 0;
        for (int bit = 0; bit < 8 * content.length; bit++) {
            byte[] flipped = content.clone();
            flipped[bit / 8] ^= (byte) (1 << bit % 8);
            refused += readSoundlyOrRefuse(flipped) ? 0 : 1;
        }
        assertTrue(refused > 2500, "refused " + refused);
    }

    @Test
    void randomDamageIsReadSoundlyOrRefused() throws IOException {
        Random random = new Random(11);
        byte[] pickle = TorchFiles.pickle(List.of(new TorchFiles.Weight("a", DType.F32, SIX, bytes(24)),
                new TorchFiles.Weight("b", DType.BF16, List.of(3L), bytes(6))));
        byte[] opcodes = "(.NJKMGX}])tsuaeqrhjcQRb\u0080\u0085\u0086\u0087\u0088\u0089\u008a\u008c\u0093\u0094\u0095\0"
                .getBytes(StandardCharsets.ISO_8859_1);
        for (int round = 0; round < 5000; round++) {
            byte[] damaged = pickle.clone();
            for (int i = random.nextInt(5); i >= 0; i--) {
                int at = 2 + random.nextInt(damaged.length - 2);
                damaged[at] = opcodes[random.nextInt(opcodes.length)];
                if (random.nextInt(8) == 0) { // moved, too
                    System.arraycopy(damaged, at, damaged, Math.min(at + 1, damaged.length), damaged.length - at - 1);
                }
            }
            readSoundlyOrRefuse(TorchFiles.file(damaged, bytes(24), bytes(6)));
        }
    }

    /** Returns whether it was read. */
    private boolean readSoundlyOrRefuse(byte[] content) throws IOException {
        try {
            for (Tensor tensor : read(content)) {
                assertTrue(tensor.offset() >= 0 && tensor.bytes() >= 0
                        && tensor.offset() + tensor.bytes() <= content.length, tensor.toString());
                assertEquals(tensor.bytes(), tensor.shape().stream().mapToLong(n -> n).reduce(tensor.dtype().bytes(),
                        Math::multiplyExact));
            }
            return true;
        } catch (LaminaException e) {
            assertEquals(1, e.getMessage().lines().count(), e.getMessage());
            return false;
        }
    }

    /** A file with a hole of 5 GiB, the offsets and sizes of which need zip64. */
    @Test
    void offsetsHave64Bits(@TempDir Path disk) throws IOException {
        long big = 5L << 30;
        byte[] pickle = dict().op('(').text("big").tensor("ByteStorage", "0", big, 0, List.of(big), List.of(1L))
                .text("last").tensor("ByteStorage", "1", 1, 0, List.of(1L), List.of(1L)).op('u', '.').bytes();
        byte[] small = TorchFiles.fill(new ZipWriter(false, true), "x", pickle, List.of(new byte[0], new byte[] {9}))
                .bytes();
        ZipWriter zip = new ZipWriter(false, true);
        TorchFiles.fill(zip, "x", pickle, List.of(new byte[0], new byte[] {9}));
        int hole = zip.start(5); // where the entry after the big one begins
        int bigEntry = zip.start(4);
        byte[] sized = patch(small, bigEntry + 30 + "x/data/0".length() + 4, 8, big);
        sized = patch(sized, bigEntry + 30 + "x/data/0".length() + 12, 8, big);
        int central = central(sized, 4) + 46 + "x/data/0".length() + 4;
        sized = patch(patch(sized, central, 8, big), central + 8, 8, big);
        for (int entry = 5; entry < 8; entry++) {
            int at = central(sized, entry);
            int wide = at + 46 + ByteBuffer.wrap(sized).order(ByteOrder.LITTLE_ENDIAN).getShort(at + 28) + 4 + 16;
            sized = patch(sized, wide, 8, big + zip.start(entry));
        }
        int directory = central(sized, 0);
        int end = sized.length - 22 - 20 - 56;
        sized = patch(sized, end + 48, 8, big + directory);
        sized = patch(sized, end + 56 + 8, 8, big + end);
        sized = patch(sized, sized.length - 6, 4, -1);
        Path file = disk.resolve("pytorch_model.bin");
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
            channel.write(ByteBuffer.wrap(sized, 0, hole));
            channel.write(ByteBuffer.wrap(sized, hole, sized.length - hole), hole + big);
        }
        List<Tensor> tensors = TorchFile.read(file).tensors();
        assertEquals(List.of("big", "last"), tensors.stream().map(Tensor::name).toList());
        assertEquals(big, tensors.getFirst().bytes());
        assertTrue(tensors.getLast().offset() > big);
        assertArrayEquals(new byte[] {9}, SafetensorsFiles.content(tensors.getLast()));
    }
}
