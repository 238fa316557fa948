package dev.lamina.internal.checkpoint;

import com.google.gson.JsonParseException;
import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import com.google.gson.stream.MalformedJsonException;
import dev.lamina.LaminaException;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CharsetEncoder;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;

/**
 * The checked header of a safetensors file (format: github.com/huggingface/safetensors): 8 bytes little-endian
 * length, a JSON object of that length, the tensors without gap or overlap up to the end of the file.
 *
 * @param file the file
 * @param headerBytes bytes before the first tensor, the length field included
 * @param checksum CRC32C of those bytes
 * @param fileBytes size of the file
 * @param tensors all tensors in the order of their offsets
 */
public record SafetensorsHeader(Path file, long headerBytes, int checksum, long fileBytes, List<Tensor> tensors)
        implements WeightFile {
    /** Longest JSON header that the format allows, in bytes. */
    public static final long MAX_JSON_BYTES = 100_000_000;

    /** More tensors than any known model has; a hostile header could otherwise fill the memory with them. */
    static final int MAX_TENSORS = 250_000;

    static final int MAX_RANK = 32;

    /**
     * Reads and checks a header. Nothing is allocated by a size from the file before the size was checked.
     *
     * @throws LaminaException if the file is not a sound safetensors file
     * @throws IOException if it cannot be read
     */
    public static SafetensorsHeader read(Path file) throws IOException {
        FileErrors.checkFile(file);
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            return new Parser(file, channel).parse();
        }
    }

    private static final class Parser {
        private static final Comparator<Tensor> BY_OFFSET =
                Comparator.comparingLong(Tensor::offset).thenComparingLong(Tensor::bytes);

        private final Path file;
        private final FileChannel channel;
        private final CharsetEncoder utf8 = StandardCharsets.UTF_8.newEncoder();
        private final List<Tensor> tensors = new ArrayList<>();
        private long fileBytes;
        private long dataStart;

        Parser(Path file, FileChannel channel) {
            this.file = file;
            this.channel = channel;
        }

        SafetensorsHeader parse() throws IOException {
            fileBytes = channel.size();
            if (fileBytes < 10) {
                throw problem("has only " + fileBytes + " bytes, too few for a safetensors file");
            }
            ByteBuffer start = ByteBuffer.allocate(9).order(ByteOrder.LITTLE_ENDIAN);
            while (start.hasRemaining()) {
                if (channel.read(start, start.position()) < 0) {
                    throw problem("ended while it was read");
                }
            }
            long jsonBytes = start.getLong(0);
            if (jsonBytes < 0 || jsonBytes > MAX_JSON_BYTES) {
                throw problem("says that its header has " + Long.toUnsignedString(jsonBytes)
                        + " bytes (the limit is " + MAX_JSON_BYTES + "), so it is no safetensors file or is damaged");
            }
            if (jsonBytes > fileBytes - 8) {
                throw problem("says that its header has " + jsonBytes + " bytes, but only " + (fileBytes - 8)
                        + " follow: it is truncated or damaged");
            }
            if (start.get(8) != '{') {
                throw problem("has a header that does not begin with '{', so it is no safetensors file or is damaged");
            }
            dataStart = 8 + jsonBytes;
            channel.position(0);
            HeaderStream stream = new HeaderStream(Channels.newInputStream(channel), dataStart);
            stream.skipNBytes(8);
            readJson(stream);
            tensors.sort(BY_OFFSET);
            checkOrder();
            return new SafetensorsHeader(file, dataStart, stream.checksum(), fileBytes, List.copyOf(tensors));
        }

        private void readJson(InputStream stream) throws IOException {
            var decoder = StandardCharsets.UTF_8.newDecoder()
                    .onMalformedInput(CodingErrorAction.REPORT)
                    .onUnmappableCharacter(CodingErrorAction.REPORT);
            try {
                JsonReader json = new JsonReader(new BoundedStrings(new InputStreamReader(stream, decoder)));
                json.setStrictness(Strictness.STRICT);
                readTensors(json);
                json.peek(); // reads up to the end and accepts nothing but white space there
            } catch (CharacterCodingException e) {
                throw problem("has a header that is not valid UTF-8", e);
            } catch (MalformedJsonException | EOFException | IllegalStateException | JsonParseException
                    | NumberFormatException e) {
                throw problem("has a header that is not valid safetensors JSON", e);
            } catch (BoundedStrings.TooLongException e) {
                throw problem("has a header with a text of more than " + BoundedStrings.LIMIT + " characters", e);
            }
        }

        private void readTensors(JsonReader json) throws IOException {
            Set<String> names = new HashSet<>();
            json.beginObject();
            while (json.hasNext()) {
                String name = json.nextName();
                if (!names.add(name)) {
                    throw problem("lists " + FileErrors.quote(name) + " twice");
                }
                if (!utf8.canEncode(name)) {
                    throw problem("has a tensor name that is not valid Unicode: " + FileErrors.quote(name));
                }
                if (name.equals("__metadata__")) {
                    readMetadata(json);
                } else if (tensors.size() == MAX_TENSORS) {
                    throw problem("lists more than " + MAX_TENSORS + " tensors");
                } else {
                    tensors.add(readTensor(json, name));
                }
            }
            json.endObject();
        }

        private void readMetadata(JsonReader json) throws IOException {
            Set<String> keys = new HashSet<>();
            json.beginObject();
            while (json.hasNext()) {
                String key = json.nextName();
                if (!keys.add(key)) {
                    throw problem("lists the metadata " + FileErrors.quote(key) + " twice");
                }
                if (json.peek() != JsonToken.STRING) {
                    throw problem("has metadata that is not text: " + FileErrors.quote(key));
                }
                json.skipValue();
            }
            json.endObject();
        }

        private Tensor readTensor(JsonReader json, String name) throws IOException {
            String dtypeName = null;
            List<Long> shape = null;
            List<Long> range = null;
            json.beginObject();
            while (json.hasNext()) {
                String key = json.nextName();
                switch (key) {
                    case "dtype" -> {
                        checkFirst(dtypeName, name, key);
                        if (json.peek() != JsonToken.STRING) {
                            throw problem(name, "has a dtype that is not text");
                        }
                        dtypeName = json.nextString();
                    }
                    case "shape" -> {
                        checkFirst(shape, name, key);
                        shape = readNumbers(json, name, key, MAX_RANK);
                    }
                    case "data_offsets" -> {
                        checkFirst(range, name, key);
                        range = readNumbers(json, name, key, 2);
                    }
                    default -> json.skipValue();
                }
            }
            json.endObject();
            if (dtypeName == null || shape == null || range == null || range.size() != 2) {
                throw problem(name, "needs dtype, shape and two data_offsets");
            }
            DType dtype = DType.byName(dtypeName);
            if (dtype == null) {
                throw problem(name, "has the unknown dtype " + FileErrors.quote(dtypeName));
            }
            return place(name, dtype, shape, range.get(0), range.get(1));
        }

        private void checkFirst(@Nullable Object before, String name, String key) {
            if (before != null) {
                throw problem(name, "gives its " + key + " twice");
            }
        }

        private List<Long> readNumbers(JsonReader json, String name, String key, int limit) throws IOException {
            List<Long> numbers = new ArrayList<>();
            json.beginArray();
            while (json.hasNext()) {
                if (numbers.size() == limit) {
                    throw problem(name, "has more than " + limit + " numbers in its " + key);
                }
                // nextLong would also take "1", 1.0 and 1e3
                String text = json.peek() == JsonToken.NUMBER ? json.nextString() : "";
                try {
                    numbers.add(Long.parseLong(text));
                } catch (NumberFormatException e) {
                    throw problem(name, "has a " + key + " that is not made of 64-bit whole numbers");
                }
                if (numbers.getLast() < 0) {
                    throw problem(name, "has a negative number in its " + key);
                }
            }
            json.endArray();
            return List.copyOf(numbers);
        }

        private Tensor place(String name, DType dtype, List<Long> shape, long begin, long end) {
            long bytes = dtype.bytes();
            try {
                for (long dimension : shape) {
                    bytes = Math.multiplyExact(bytes, dimension);
                }
            } catch (ArithmeticException e) {
                throw problem(name, "has the shape " + shape + ", which is too large");
            }
            if (begin > end) {
                throw problem(name, "ends before it begins: data_offsets [" + begin + ", " + end + "]");
            }
            if (end > fileBytes - dataStart) {
                throw problem(name, "ends at byte " + end + " of the data, but the file has only "
                        + (fileBytes - dataStart) + ": it is truncated or damaged");
            }
            if (bytes != end - begin) {
                throw problem(name, "has " + (end - begin) + " bytes, but " + dtype + " " + shape + " takes " + bytes);
            }
            return new Tensor(name, dtype, shape, file, dataStart + begin, bytes);
        }

        private void checkOrder() {
            long end = dataStart;
            for (Tensor tensor : tensors) {
                if (tensor.offset() < end) {
                    throw problem(tensor.name(), "overlaps the tensor before it");
                }
                if (tensor.offset() > end) {
                    throw problem(tensor.name(), "leaves a hole of " + (tensor.offset() - end) + " bytes before it");
                }
                end += tensor.bytes();
            }
            if (end != fileBytes) {
                throw problem("has " + (fileBytes - end) + " bytes after its last tensor, so it is damaged");
            }
        }

        private LaminaException problem(String tensor, String what) {
            return problem("is not sound: tensor " + FileErrors.quote(tensor) + " " + what);
        }

        private LaminaException problem(String what) {
            return new LaminaException(line(what));
        }

        private LaminaException problem(String what, Exception cause) {
            return new LaminaException(line(what), cause);
        }

        private String line(String what) {
            return file + " " + what + "; download or convert the file again";
        }
    }

    /** The first bytes of a file, summed up while they are read. */
    private static final class HeaderStream extends InputStream {
        private final InputStream source;
        private final CRC32C checksum = new CRC32C();
        private long left;

        HeaderStream(InputStream source, long bytes) {
            this.source = source;
            this.left = bytes;
        }

        @Override
        public int read() throws IOException {
            byte[] one = new byte[1];
            return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
        }

        @Override
        public int read(byte[] target, int offset, int length) throws IOException {
            if (left == 0) {
                return -1;
            }
            int count = source.read(target, offset, (int) Math.min(length, left));
            if (count > 0) {
                checksum.update(target, offset, count);
                left -= count;
            }
            return count;
        }

        int checksum() {
            return (int) checksum.getValue();
        }
    }
}
