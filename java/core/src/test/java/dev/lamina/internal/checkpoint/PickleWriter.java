package dev.lamina.internal.checkpoint;

import java.io.ByteArrayOutputStream;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Writes pickles of protocol 2, instruction by instruction, as Python does for {@code torch.save}. */
final class PickleWriter {
    private final ByteArrayOutputStream out = new ByteArrayOutputStream();
    private final Map<String, Integer> shared = new HashMap<>();
    private int memo;

    PickleWriter() {
        op(0x80, 2);
    }

    byte[] bytes() {
        return out.toByteArray();
    }

    /** Writes bytes as they are. */
    PickleWriter op(int... bytes) {
        for (int each : bytes) {
            out.write(each);
        }
        return this;
    }

    PickleWriter raw(byte[] bytes) {
        out.writeBytes(bytes);
        return this;
    }

    private PickleWriter number(char opcode, int number) {
        return op(opcode).raw(ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putInt(number).array());
    }

    /** Notes what was written last. */
    PickleWriter put() {
        int place = memo++;
        return place < 256 ? op('q', place) : number('r', place);
    }

    PickleWriter get(int place) {
        return place < 256 ? op('h', place) : number('j', place);
    }

    /** Writes a text that Python has only once. */
    PickleWriter sharedText(String text) {
        if (shared.containsKey(text)) {
            return get(shared.get(text));
        }
        shared.put(text, memo);
        return text(text);
    }

    PickleWriter text(String text) {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        return number('X', bytes.length).raw(bytes).put();
    }

    PickleWriter global(String module, String name) {
        String line = module + '\n' + name + '\n';
        if (shared.containsKey(line)) {
            return get(shared.get(line));
        }
        shared.put(line, memo);
        return op('c').raw(line.getBytes(StandardCharsets.UTF_8)).put();
    }

    PickleWriter whole(long number) {
        if (number >= 0 && number < 256) {
            return op('K', (int) number);
        }
        if (number >= 0 && number < 1 << 16) {
            return op('M', (int) number & 0xff, (int) number >> 8);
        }
        if (number == (int) number) {
            return number('J', (int) number);
        }
        byte[] big = BigInteger.valueOf(number).toByteArray();
        op(0x8a, big.length);
        for (int i = big.length - 1; i >= 0; i--) {
            op(big[i]);
        }
        return this;
    }

    PickleWriter wholes(List<Long> numbers) {
        if (numbers.size() > 3) {
            op('(');
        }
        numbers.forEach(this::whole);
        return switch (numbers.size()) {
            case 0 -> op(')');
            case 1, 2, 3 -> op(0x84 + numbers.size()).put();
            default -> op('t').put();
        };
    }

    PickleWriter emptyOrderedDict() {
        return global("collections", "OrderedDict").op(')', 'R').put();
    }

    /**
     * Writes a tensor.
     *
     * @param storageType name of the storage's class in the module torch
     * @param key name of the storage
     * @param elements size of the storage
     */
    PickleWriter tensor(String storageType, String key, long elements, long offset, List<Long> shape,
            List<Long> strides) {
        return global("torch._utils", "_rebuild_tensor_v2").op('(')
                .storage("torch", storageType, key, elements)
                .whole(offset).wholes(shape).wholes(strides)
                .op(0x89).emptyOrderedDict().op('t').put().op('R').put();
    }

    PickleWriter storage(String module, String storageType, String key, long elements) {
        return op('(').sharedText("storage").global(module, storageType).text(key).sharedText("cpu").whole(elements)
                .op('t').put().op('Q');
    }
}
