package dev.lamina.internal.checkpoint;

import dev.lamina.LaminaException;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * Reads a pickle of tensors in dictionaries (format: Python's pickletools; tensors: torch/_utils.py and
 * torch/serialization.py). A pickle is a program; this is not an interpreter of it. The few names that describe tensors
 * are known here and give plain data; any other name, and any other instruction, ends the reading.
 *
 * <p>Values may contain themselves, as those of a hostile file do: nothing here, or in who uses it, follows them deeper
 * than it knows.
 */
final class TensorPickle {
    /** Longest pickle that is read; a tensor takes about 150 bytes. */
    static final long MAX_BYTES = 64L << 20;

    /** The most values, and places for them in containers and in the memo, that are kept: each takes some 40 bytes. */
    static final int MAX_VALUES = 1 << 22;

    static final int MAX_STACK = 1 << 20;
    private static final int MAX_NAME = 1024;

    /** What a pickle says, as far as it matters. */
    sealed interface Value permits Text, Whole, Tuple, Dict, Storage, View, Function, StorageType, ElementType, Other {}

    record Text(String text) implements Value {}

    record Whole(long number) implements Value {}

    record Tuple(List<Value> items) implements Value {}

    /** A dictionary, ordered or not. */
    static final class Dict implements Value {
        /** What lies under a text, in its order. */
        final Map<String, Value> items = new LinkedHashMap<>();
        /** Whether something lies under a key that is no text, or too long for a name; it is left out. */
        boolean otherKeys;
    }

    /**
     * Memory that tensors lie in.
     *
     * @param key the name of its bytes in the file
     * @param dtype type of its elements; null if each tensor in it has its own
     * @param bytes size
     */
    record Storage(String key, @Nullable DType dtype, long bytes) implements Value {}

    /**
     * A tensor. Nothing of it has been checked against its storage.
     *
     * @param offset its first element in the storage
     * @param shape dimensions, outermost first
     * @param strides one for each dimension, in elements
     */
    record View(Storage storage, DType dtype, long offset, List<Long> shape, List<Long> strides) implements Value {}

    record StorageType(@Nullable DType dtype) implements Value {}

    record ElementType(DType dtype) implements Value {}

    /** What a pickle may call. */
    enum Function implements Value { ORDERED_DICT, TENSOR, TENSOR_V2, TENSOR_V3, PARAMETER }

    /** What describes no tensor: numbers that are no 64-bit integers, lists (whatever is in them), and so on. */
    enum Other implements Value { NONE, FALSE, TRUE, NUMBER, LIST }

    private static final Map<String, Function> FUNCTIONS = Map.of(
            "collections.OrderedDict", Function.ORDERED_DICT,
            "torch._utils._rebuild_tensor", Function.TENSOR,
            "torch._utils._rebuild_tensor_v2", Function.TENSOR_V2,
            "torch._utils._rebuild_tensor_v3", Function.TENSOR_V3,
            "torch._utils._rebuild_parameter", Function.PARAMETER);

    private static final Map<String, DType> STORAGES = Map.ofEntries(
            Map.entry("torch.FloatStorage", DType.F32),
            Map.entry("torch.HalfStorage", DType.F16),
            Map.entry("torch.BFloat16Storage", DType.BF16),
            Map.entry("torch.DoubleStorage", DType.F64),
            Map.entry("torch.LongStorage", DType.I64),
            Map.entry("torch.IntStorage", DType.I32),
            Map.entry("torch.ShortStorage", DType.I16),
            Map.entry("torch.CharStorage", DType.I8),
            Map.entry("torch.ByteStorage", DType.U8),
            Map.entry("torch.BoolStorage", DType.BOOL),
            Map.entry("torch.ComplexFloatStorage", DType.C64));

    private static final Map<String, DType> ELEMENTS = Map.ofEntries(
            Map.entry("torch.float32", DType.F32),
            Map.entry("torch.float16", DType.F16),
            Map.entry("torch.bfloat16", DType.BF16),
            Map.entry("torch.float64", DType.F64),
            Map.entry("torch.int64", DType.I64),
            Map.entry("torch.int32", DType.I32),
            Map.entry("torch.int16", DType.I16),
            Map.entry("torch.int8", DType.I8),
            Map.entry("torch.uint64", DType.U64),
            Map.entry("torch.uint32", DType.U32),
            Map.entry("torch.uint16", DType.U16),
            Map.entry("torch.uint8", DType.U8),
            Map.entry("torch.bool", DType.BOOL),
            Map.entry("torch.complex64", DType.C64),
            Map.entry("torch.float8_e4m3fn", DType.F8_E4M3),
            Map.entry("torch.float8_e5m2", DType.F8_E5M2),
            Map.entry("torch.float8_e8m0fnu", DType.F8_E8M0));

    private final Path file;
    private final ByteBuffer in;
    private final List<Value> stack = new ArrayList<>();
    /** Sizes of the stack at its marks. */
    private final List<Integer> marks = new ArrayList<>();
    private final Map<Integer, Value> memo = new HashMap<>();
    private int values;

    private TensorPickle(Path file, ByteBuffer in) {
        this.file = file;
        this.in = in.order(ByteOrder.LITTLE_ENDIAN);
    }

    /**
     * Reads a pickle.
     *
     * @param file the file it is from, for messages
     * @param pickle all of it, at most {@link #MAX_BYTES}; consumed
     * @throws LaminaException if it is damaged, or is about something other than tensors
     */
    static Value read(Path file, ByteBuffer pickle) {
        TensorPickle reader = new TensorPickle(file, pickle);
        try {
            return reader.read();
        } catch (BufferUnderflowException e) {
            throw reader.problem("that is cut off");
        }
    }

    private Value read() {
        boolean known = in.get() == (byte) 0x80; // PROTO
        int version = in.get();
        if (!known || version < 2 || version > 5) {
            throw problem("of an unknown version");
        }
        while (true) {
            int opcode = in.get() & 0xff;
            switch (opcode) {
                case '(' -> mark();
                case '.' -> { // STOP
                    Value result = pop();
                    if (!stack.isEmpty() || !marks.isEmpty() || in.hasRemaining()) {
                        throw problem("that ends too early");
                    }
                    return result;
                }
                case 'N' -> make(Other.NONE);
                case 0x88 -> make(Other.TRUE);
                case 0x89 -> make(Other.FALSE);
                case 'J' -> make(new Whole(in.getInt())); // BININT
                case 'K' -> make(new Whole(in.get() & 0xff)); // BININT1
                case 'M' -> make(new Whole(in.getShort() & 0xffff)); // BININT2
                case 0x8a -> make(longNumber(in.get() & 0xff)); // LONG1
                case 'G' -> { // BINFLOAT
                    in.getLong();
                    make(Other.NUMBER);
                }
                case 'X' -> make(new Text(text(in.getInt()))); // BINUNICODE
                case 0x8c -> make(new Text(text(in.get() & 0xff))); // SHORT_BINUNICODE
                case '}' -> make(new Dict()); // EMPTY_DICT
                case ']' -> make(Other.LIST); // EMPTY_LIST
                case ')' -> make(new Tuple(List.of())); // EMPTY_TUPLE
                case 0x85 -> makeTuple(stack.size() - 1); // TUPLE1
                case 0x86 -> makeTuple(stack.size() - 2); // TUPLE2
                case 0x87 -> makeTuple(stack.size() - 3); // TUPLE3
                case 't' -> makeTuple(popMark()); // TUPLE
                case 's' -> setItems(stack.size() - 2); // SETITEM
                case 'u' -> setItems(popMark()); // SETITEMS
                case 'a' -> append(stack.size() - 1); // APPEND
                case 'e' -> append(popMark()); // APPENDS
                case 'q' -> remember(in.get() & 0xff); // BINPUT
                case 'r' -> remember(in.getInt()); // LONG_BINPUT
                case 0x94 -> remember(memo.size()); // MEMOIZE
                case 'h' -> recall(in.get() & 0xff); // BINGET
                case 'j' -> recall(in.getInt()); // LONG_BINGET
                case 'c' -> make(named(line(), line())); // GLOBAL
                case 0x93 -> { // STACK_GLOBAL
                    String name = popText();
                    make(named(popText(), name));
                }
                case 'Q' -> make(storage(pop())); // BINPERSID
                case 'R' -> call(); // REDUCE
                case 'b' -> { // BUILD: attributes of a dictionary, where PyTorch keeps versions of modules
                    pop();
                    topDict();
                }
                case 0x95 -> in.getLong(); // FRAME
                default -> throw foreign("the instruction 0x" + Integer.toHexString(opcode));
            }
        }
    }

    // ---- stack, marks, memo

    private void push(Value value) {
        if (stack.size() == MAX_STACK) {
            throw problem("that piles up more than " + MAX_STACK + " values");
        }
        stack.add(value);
    }

    private void make(Value value) {
        count(1);
        push(value);
    }

    private void count(int more) {
        values += more;
        if (values > MAX_VALUES) {
            throw problem("of more than " + MAX_VALUES + " values");
        }
    }

    private void makeTuple(int first) {
        List<Value> items = popFrom(first);
        count(items.size());
        make(new Tuple(items));
    }

    private Value pop() {
        return popFrom(stack.size() - 1).getFirst();
    }

    private String popText() {
        if (pop() instanceof Text text) {
            return text.text();
        }
        throw problem("that names something by what is no text");
    }

    /** Takes what lies at a place of the stack and above. */
    private List<Value> popFrom(int first) {
        if (first < floor()) {
            throw problem("that takes more values than there are");
        }
        List<Value> above = stack.subList(first, stack.size());
        List<Value> taken = List.copyOf(above);
        above.clear();
        return taken;
    }

    /** Returns the size of the stack at the last mark: what is below is out of reach until the mark is taken. */
    private int floor() {
        return marks.isEmpty() ? 0 : marks.getLast();
    }

    private Value top() {
        if (stack.size() == floor()) {
            throw problem("that uses a value where there is none");
        }
        return stack.getLast();
    }

    private Dict topDict() {
        if (top() instanceof Dict dict) {
            return dict;
        }
        throw problem("that puts something into what is no dictionary");
    }

    private void mark() {
        if (marks.size() == MAX_STACK) {
            throw problem("that piles up more than " + MAX_STACK + " marks");
        }
        marks.add(stack.size());
    }

    private int popMark() {
        if (marks.isEmpty()) {
            throw problem("that takes a mark where there is none");
        }
        return marks.removeLast();
    }

    private void remember(int place) {
        count(1);
        memo.put(place, top());
    }

    private void recall(int place) {
        Value value = memo.get(place);
        if (value == null) {
            throw problem("that refers to a value which is not there");
        }
        push(value);
    }

    // ---- containers

    private void setItems(int first) {
        List<Value> items = popFrom(first);
        Dict dict = topDict();
        if (items.size() % 2 != 0) {
            throw problem("with a key that has no value");
        }
        count(items.size());
        for (int i = 0; i < items.size(); i += 2) {
            if (!(items.get(i) instanceof Text(String key)) || key.length() > MAX_NAME) {
                dict.otherKeys = true;
            } else if (dict.items.put(key, items.get(i + 1)) != null) {
                throw problem("that lists " + FileErrors.quote(key) + " twice");
            }
        }
    }

    private void append(int first) {
        popFrom(first);
        if (top() != Other.LIST) {
            throw problem("that appends to what is no list");
        }
    }

    // ---- what PyTorch names

    private Value named(String module, String name) {
        String full = module + '.' + name;
        if (FUNCTIONS.containsKey(full)) {
            return FUNCTIONS.get(full);
        }
        if (STORAGES.containsKey(full)) {
            return new StorageType(STORAGES.get(full));
        }
        if (full.equals("torch.storage.UntypedStorage")) {
            return new StorageType(null);
        }
        if (ELEMENTS.containsKey(full)) {
            return new ElementType(ELEMENTS.get(full));
        }
        throw foreign(FileErrors.quote(full));
    }

    private Storage storage(Value value) {
        if (!(value instanceof Tuple(List<Value> items) && items.size() == 5
                && items.get(0) instanceof Text(String kind) && kind.equals("storage")
                && items.get(1) instanceof StorageType(DType dtype)
                && items.get(2) instanceof Text(String key) && key.length() <= MAX_NAME
                && items.get(3) instanceof Text
                && items.get(4) instanceof Whole(long elements) && elements >= 0)) {
            throw problem("that describes no storage where it should");
        }
        try {
            return new Storage(key, dtype, Math.multiplyExact(elements, dtype == null ? 1 : dtype.bytes()));
        } catch (ArithmeticException e) {
            throw problem("with a storage of " + elements + " elements");
        }
    }

    private void call() {
        if (!(pop() instanceof Tuple(List<Value> arguments)) || !(pop() instanceof Function function)) {
            throw problem("that calls what cannot be called");
        }
        make(switch (function) {
            case ORDERED_DICT -> {
                if (!arguments.isEmpty()) {
                    throw malformed(function);
                }
                yield new Dict();
            }
            case TENSOR -> tensor(function, arguments, 4);
            case TENSOR_V2 -> tensor(function, arguments, 6);
            case TENSOR_V3 -> tensor(function, arguments, 7);
            case PARAMETER -> {
                if (arguments.size() != 3 || !(arguments.getFirst() instanceof View view)) {
                    throw malformed(function);
                }
                yield view;
            }
        });
    }

    /**
     * Reads storage, offset, shape and strides, from version 2 on whether a gradient is wanted and hooks, in version 3
     * the element type, and at last properties.
     */
    private View tensor(Function function, List<Value> arguments, int least) {
        boolean counted = arguments.size() == least || arguments.size() == least + 1 && least > 4;
        if (!counted
                || !(arguments.get(0) instanceof Storage storage)
                || !(arguments.get(1) instanceof Whole(long offset))
                || !(arguments.get(2) instanceof Tuple(List<Value> shape))
                || !(arguments.get(3) instanceof Tuple(List<Value> strides))
                || shape.size() != strides.size()) {
            throw malformed(function);
        }
        DType dtype = storage.dtype();
        if (function == Function.TENSOR_V3) {
            if (dtype != null || !(arguments.get(6) instanceof ElementType(DType own))) {
                throw malformed(function);
            }
            dtype = own;
        }
        if (dtype == null) {
            throw malformed(function);
        }
        if (arguments.size() > least && !(arguments.getLast() instanceof Dict dict && dict.items.isEmpty())) {
            throw new LaminaException(file + " has a tensor that is conjugated or negated when it is read, which is "
                    + "not supported; save tensor.resolve_conj().resolve_neg()");
        }
        if (shape.size() > SafetensorsHeader.MAX_RANK) {
            throw problem("with a tensor of more than " + SafetensorsHeader.MAX_RANK + " dimensions");
        }
        count(2 * shape.size()); // numbers of its own, where the file may name the same ones again
        return new View(storage, dtype, offset, numbers(function, shape), numbers(function, strides));
    }

    private List<Long> numbers(Function function, List<Value> items) {
        List<Long> numbers = new ArrayList<>();
        for (Value item : items) {
            if (!(item instanceof Whole(long number))) {
                throw malformed(function);
            }
            numbers.add(number);
        }
        return List.copyOf(numbers);
    }

    // ---- what instructions carry with them

    /** Reads a number of that many bytes, little-endian, in two's complement. */
    private Value longNumber(int bytes) {
        if (bytes > Long.BYTES) {
            skip(bytes);
            return Other.NUMBER;
        }
        long number = 0;
        for (int i = 0; i < bytes; i++) {
            long next = i == bytes - 1 ? in.get() : in.get() & 0xff; // the last one has the sign
            number |= next << 8 * i;
        }
        return new Whole(number);
    }

    private ByteBuffer skip(int bytes) {
        if (bytes < 0 || bytes > in.remaining()) {
            throw new BufferUnderflowException();
        }
        ByteBuffer skipped = in.slice(in.position(), bytes);
        in.position(in.position() + bytes);
        return skipped;
    }

    private String text(int bytes) {
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(skip(bytes)).toString();
        } catch (CharacterCodingException e) {
            throw problem("with a text that is not valid UTF-8");
        }
    }

    private String line() {
        for (int bytes = 0; bytes <= MAX_NAME; bytes++) {
            if (in.remaining() <= bytes) {
                throw new BufferUnderflowException();
            }
            if (in.get(in.position() + bytes) == '\n') {
                String line = text(bytes);
                in.get();
                return line;
            }
        }
        throw problem("with a name of more than " + MAX_NAME + " bytes");
    }

    // ---- errors

    private LaminaException malformed(Function function) {
        return problem("with a " + function + " that is not written as PyTorch does");
    }

    private LaminaException foreign(String what) {
        return new LaminaException(file + " uses " + what + ", which is not known to describe tensors and was not run; "
                + "use the safetensors version of the model, or one saved as torch.save(model.state_dict(), ...)");
    }

    private LaminaException problem(String what) {
        return new LaminaException(file + " has a list of tensors " + what + ": it is damaged; download it again");
    }
}
