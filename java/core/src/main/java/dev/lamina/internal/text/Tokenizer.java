package dev.lamina.internal.text;

import ai.djl.huggingface.tokenizers.jni.LibUtils;
import ai.djl.huggingface.tokenizers.jni.TokenizersLibrary;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import com.google.gson.stream.MalformedJsonException;
import dev.lamina.LaminaException;
import java.io.EOFException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.locks.Lock;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/**
 * The tokenizer of a model, read from its {@code tokenizer.json}, or made of the older files that stand for it where
 * there is none ({@link TokenizerParts}). All methods may be called from any thread, also at
 * the same time; {@link #close} waits for calls in progress, and calls after it throw {@link IllegalStateException}.
 */
public final class Tokenizer implements AutoCloseable {
    static final String FILE = "tokenizer.json";
    private static final Pattern BYTE_TOKEN = Pattern.compile("<0x[0-9A-Fa-f]{2}>");
    private static final Pattern LONE_SURROGATE = Pattern.compile("[\\x{D800}-\\x{DFFF}]");

    private static final int BYTES_PER_TOKEN = Long.BYTES + Integer.BYTES; // at most one token for each byte of a text
    private static final long HEAP_RESERVE = 4L << 20;

    /** The engine: a tokenizer of the native library. */
    private final long handle;

    private final Vocabulary vocabulary;
    private final @Nullable TokenizerParts parts;
    private final boolean addsBos;
    private final @Nullable Integer bosId;
    private final ReadWriteLock lock = new ReentrantReadWriteLock();
    private boolean closed;

    private Tokenizer(long handle, TokenizerParts parts) {
        this.handle = handle;
        this.vocabulary = Vocabulary.of(parts);
        this.parts = parts;
        bosId = parts.bosId();
        addsBos = !parts.prefix().isEmpty();
    }

    private Tokenizer(long handle, Vocabulary vocabulary, @Nullable String bosToken) {
        this.handle = handle;
        this.vocabulary = vocabulary;
        this.parts = null;
        int[] bare = encode("a", false);
        int[] framed = encode("a", true);
        // What stands before the text is BOS; what may stand behind it (EOS) is not.
        addsBos = framed.length > bare.length && (bare.length == 0 || framed[0] != bare[0]);
        bosId = addsBos ? Integer.valueOf(framed[0]) : bosToken == null ? null : vocabulary.named.get(bosToken);
    }

    /** Returns whether a model has files that a tokenizer can be made of. */
    public static boolean exists(Path modelDirectory) {
        return Files.isRegularFile(modelDirectory.resolve(FILE)) || TokenizerParts.file(modelDirectory) != null;
    }

    /**
     * Opens the tokenizer of a model.
     *
     * @param modelDirectory the folder with {@code tokenizer.json}, else with {@code tokenizer.model}, {@code
     *     qwen.tiktoken}, or {@code vocab.json} and {@code merges.txt}; and with {@code tokenizer_config.json}, where
     *     there is one
     * @throws LaminaException if there is no such file or it cannot be used, or this machine has no library for it
     */
    public static Tokenizer open(Path modelDirectory) {
        Path file = modelDirectory.resolve(FILE);
        if (!Files.isRegularFile(file)) {
            Path older = TokenizerParts.file(modelDirectory);
            if (older == null) {
                throw new LaminaException(modelDirectory + " has no " + FILE
                        + ": copy the file that was published with the model into this folder");
            }
            TokenizerParts parts = TokenizerParts.read(older, TokenizerConfig.read(modelDirectory));
            return new Tokenizer(load(older, parts.engine()), parts);
        }
        TokenizerConfig config = TokenizerConfig.read(modelDirectory);
        Vocabulary vocabulary = Vocabulary.read(file, config);
        long handle;
        try {
            handle = load(file, Files.readString(file));
        } catch (IOException e) {
            throw new LaminaException(file + " cannot be read: " + e + "; check the file and its permissions", e);
        }
        try {
            return new Tokenizer(handle, vocabulary, config.token("bos_token"));
        } catch (RuntimeException e) {
            TokenizersLibrary.LIB.deleteTokenizer(handle);
            throw e;
        }
    }

    /** Makes an engine of the text of a {@code tokenizer.json}. */
    private static long load(Path file, String content) {
        // Otherwise the library reports its use over the network, or downloads another build of itself.
        setDefault("ai.djl.offline", "true");
        setDefault("OPT_OUT_TRACKING", "true");
        setDefault("RUST_FLAVOR", "cpu");
        // It logs through SLF4J, which complains on stderr where the application has no use for it.
        setDefault("slf4j.internal.verbosity", "ERROR");
        try {
            LibUtils.checkStatus();
            // Not through the library's own class, which parses the text a second time, in Java.
            long handle = TokenizersLibrary.LIB.createTokenizerFromString(content);
            TokenizersLibrary.LIB.disableTruncation(handle);
            TokenizersLibrary.LIB.disablePadding(handle);
            return handle;
        } catch (LinkageError e) {
            throw noLibrary(e);
        } catch (RuntimeException e) {
            if (e.getClass().getName().equals("ai.djl.engine.EngineException")) {
                throw noLibrary(e);
            }
            throw new LaminaException(file + " is not a tokenizer that can be used (" + firstLine(e)
                    + "): download it again", e);
        }
    }

    private static String firstLine(Exception e) {
        return String.valueOf(e.getMessage()).lines().findFirst().orElse("");
    }

    private static LaminaException noLibrary(Throwable cause) {
        return new LaminaException("the native library of the tokenizers cannot be loaded on "
                + System.getProperty("os.name") + " " + System.getProperty("os.arch") + " (" + cause
                + "): check that the folder named by ENGINE_CACHE_DIR, else ~/.djl.ai, can be written", cause);
    }

    private static void setDefault(String name, String value) {
        if (System.getProperty(name) == null && System.getenv(name) == null) {
            System.setProperty(name, value);
        }
    }

    /**
     * Returns the tokens of a text. Special tokens that are written in the text are recognised.
     *
     * @param text any text; half surrogate pairs count as U+FFFD
     * @param addSpecialTokens whether the tokens that the model expects around a text (BOS) are added: true for plain
     *     text, false for what a {@link ChatTemplate} rendered
     */
    public int[] encode(String text, boolean addSpecialTokens) {
        // The native library takes UTF-8, which has no half pairs.
        String whole = LONE_SURROGATE.matcher(text).replaceAll("\ufffd");
        Lock reading = startCall();
        try {
            checkFits(whole);
            return parts == null
                    ? engineIds(whole, addSpecialTokens)
                    : join(parts.addedTokens().split(whole), addSpecialTokens, parts);
        } finally {
            reading.unlock();
        }
    }

    /**
     * Returns the tokens of a text, with none before or behind it, and none recognised in it; a {@code tokenizer.json}
     * recognises its special tokens even so.
     */
    public int[] encodePlain(String text) {
        if (parts == null) {
            return encode(text, false);
        }
        String whole = LONE_SURROGATE.matcher(text).replaceAll("\ufffd");
        Lock reading = startCall();
        try {
            checkFits(whole);
            return join(List.of(new AddedTokens.Segment(whole, null)), false, parts);
        } finally {
            reading.unlock();
        }
    }

    private int[] join(List<AddedTokens.Segment> segments, boolean addSpecialTokens, TokenizerParts parts) {
        IntStream.Builder ids = IntStream.builder();
        if (addSpecialTokens) {
            parts.prefix().forEach(ids::add);
        }
        boolean first = true;
        for (AddedTokens.Segment segment : segments) {
            if (segment.token() != null) {
                ids.add(segment.token().id());
            } else {
                String text = parts.normalizer() == null ? segment.text()
                        : parts.normalizer().normalize(segment.text(), first || parts.prefixesEach());
                for (int id : engineIds(text, false)) {
                    ids.add(id);
                }
            }
            first = false;
        }
        if (addSpecialTokens) {
            parts.suffix().forEach(ids::add);
        }
        return ids.build().toArray();
    }

    private int[] engineIds(String text, boolean addSpecialTokens) {
        // Only the ids: the library's own encode() also makes a string and an offset of each token, many times the
        // text.
        long encoding = TokenizersLibrary.LIB.encode(handle, text, addSpecialTokens);
        try {
            long[] ids = TokenizersLibrary.LIB.getTokenIds(encoding);
            int[] result = new int[ids.length];
            for (int i = 0; i < ids.length; i++) {
                result[i] = Math.toIntExact(ids[i]);
            }
            return result;
        } finally {
            TokenizersLibrary.LIB.deleteEncoding(encoding);
        }
    }

    /** Refuses a text whose ids might not fit the Java heap: the native library ends a process that runs out. */
    private static void checkFits(String text) {
        long needed = BYTES_PER_TOKEN * utf8Bytes(text) + HEAP_RESERVE;
        var runtime = Runtime.getRuntime();
        if (needed > heapLeft(runtime)) {
            System.gc(); // what is no longer used counts as used until then
            if (needed > heapLeft(runtime)) {
                throw new LaminaException("A text of " + utf8Bytes(text) + " bytes may need " + (needed >> 20)
                        + " MiB of Java heap to tokenize, and " + (heapLeft(runtime) >> 20)
                        + " MiB are free: cut the text, or give the JVM more (-Xmx; for the launcher LAMINA_JAVA_OPTS)");
            }
        }
    }

    private static long heapLeft(Runtime runtime) {
        return runtime.maxMemory() - runtime.totalMemory() + runtime.freeMemory();
    }

    private static long utf8Bytes(String text) {
        long bytes = 0;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            bytes += c < 0x80 ? 1 : c < 0x800 || Character.isSurrogate(c) ? 2 : 3;
        }
        return bytes;
    }

    /**
     * Returns the text of tokens. Ids outside the vocabulary give no text: models round their vocabularies up.
     *
     * @param skipSpecialTokens whether special tokens give no text either
     */
    public String decode(int[] ids, boolean skipSpecialTokens) {
        long[] known = new long[ids.length];
        int count = 0;
        for (int id : ids) {
            if (id >= 0 && id < vocabulary.size && !(parts != null && skipSpecialTokens && isSpecial(id))) {
                known[count++] = id;
            }
        }
        Lock reading = startCall();
        try {
            long[] shown = Arrays.copyOf(known, count);
            return parts != null && parts.pieces() != null
                    ? parts.pieces().decode(shown)
                    : TokenizersLibrary.LIB.decode(handle, shown, skipSpecialTokens);
        } finally {
            reading.unlock();
        }
    }

    private Lock startCall() {
        Lock reading = lock.readLock();
        reading.lock();
        if (closed) {
            reading.unlock();
            throw new IllegalStateException("the tokenizer is closed");
        }
        return reading;
    }

    /** Returns the number of ids: the largest id of a token, plus 1. */
    public int vocabularySize() {
        return vocabulary.size;
    }

    /**
     * Returns the id of a special or otherwise added token by its text, such as {@code "<|im_end|>"}, or of one that
     * {@code tokenizer_config.json} names; null if there is none.
     */
    public @Nullable Integer tokenId(String token) {
        return vocabulary.named.get(token);
    }

    /** Returns whether a token is special: {@link #decode} can leave it out. */
    public boolean isSpecial(int id) {
        return id >= 0 && vocabulary.special.get(id);
    }

    /** Returns whether a token is one byte of a character that the vocabulary lacks. */
    boolean isByte(int id) {
        return id >= 0 && vocabulary.bytes.get(id);
    }

    /** Returns whether {@link #encode} with special tokens puts a token before the text. */
    public boolean addsBos() {
        return addsBos;
    }

    /** Returns the token that begins a text: the one that {@link #encode} puts there, else the configured one. */
    public @Nullable Integer bosId() {
        return bosId;
    }

    /** Frees the native memory of the tokenizer. */
    @Override
    public void close() {
        Lock writing = lock.writeLock();
        writing.lock();
        try {
            if (!closed) {
                closed = true;
                TokenizersLibrary.LIB.deleteTokenizer(handle);
            }
        } finally {
            writing.unlock();
        }
    }

    /** What Lamina needs to know of the vocabulary and the native library does not tell. */
    private static final class Vocabulary {
        private static final int MAX_SIZE = 1 << 24;

        private int size;
        private final Map<String, Integer> named = new HashMap<>();
        private final BitSet special = new BitSet();
        private final BitSet bytes = new BitSet();
        private final Set<String> wanted;

        private Vocabulary(Set<String> wanted) {
            this.wanted = wanted;
        }

        static Vocabulary of(TokenizerParts parts) {
            Vocabulary vocabulary = new Vocabulary(Set.of());
            vocabulary.size = parts.size();
            for (AddedTokens.Token token : parts.addedTokens().all()) {
                vocabulary.named.put(token.text(), token.id());
                vocabulary.special.set(token.id(), token.special());
            }
            for (int id = 0; parts.pieces() != null && id < vocabulary.size; id++) {
                vocabulary.bytes.set(id, parts.pieces().isByte(id));
            }
            return vocabulary;
        }

        static Vocabulary read(Path file, TokenizerConfig config) {
            Set<String> wanted = new HashSet<>();
            config.specialTokens().values().forEach(token -> wanted.add(token.toString()));
            Vocabulary vocabulary = new Vocabulary(wanted);
            boolean decodesBytes = false;
            try (JsonReader json = new JsonReader(Files.newBufferedReader(file))) {
                json.beginObject();
                while (json.hasNext()) {
                    switch (json.nextName()) {
                        case "added_tokens" -> vocabulary.readAddedTokens(json);
                        case "model" -> vocabulary.readModel(json);
                        case "decoder" -> decodesBytes =
                                JsonParser.parseReader(json).toString().contains("\"ByteFallback\"");
                        default -> json.skipValue();
                    }
                }
                json.endObject();
            } catch (MalformedJsonException | EOFException | JsonParseException | IllegalStateException
                    | NumberFormatException e) {
                throw new LaminaException(file + " is not a tokenizer (" + firstLine(e) + "): download it again", e);
            } catch (IOException e) {
                throw new LaminaException(file + " cannot be read: " + e + "; check the file and its permissions", e);
            }
            if (!decodesBytes) {
                vocabulary.bytes.clear();
            }
            return vocabulary;
        }

        private void readAddedTokens(JsonReader json) throws IOException {
            json.beginArray();
            while (json.hasNext()) {
                int id = -1;
                String content = "";
                boolean isSpecial = false;
                json.beginObject();
                while (json.hasNext()) {
                    switch (json.nextName()) {
                        case "id" -> id = json.nextInt();
                        case "content" -> content = json.nextString();
                        case "special" -> isSpecial = json.nextBoolean();
                        default -> json.skipValue();
                    }
                }
                json.endObject();
                add(id);
                named.put(content, id);
                special.set(id, isSpecial);
            }
            json.endArray();
        }

        private void readModel(JsonReader json) throws IOException {
            json.beginObject();
            while (json.hasNext()) {
                if (!json.nextName().equals("vocab")) {
                    json.skipValue();
                } else if (json.peek() == JsonToken.BEGIN_OBJECT) {
                    json.beginObject();
                    while (json.hasNext()) {
                        String token = json.nextName();
                        addOfModel(token, json.nextInt());
                    }
                    json.endObject();
                } else {
                    // A unigram model lists [token, score]: the position is the id.
                    json.beginArray();
                    for (int id = 0; json.hasNext(); id++) {
                        json.beginArray();
                        addOfModel(json.nextString(), id);
                        json.skipValue();
                        json.endArray();
                    }
                    json.endArray();
                }
            }
            json.endObject();
        }

        private void addOfModel(String token, int id) {
            add(id);
            if (wanted.contains(token)) {
                named.putIfAbsent(token, id);
            }
            if (token.length() == 6) {
                Matcher matcher = BYTE_TOKEN.matcher(token);
                bytes.set(id, matcher.matches());
            }
        }

        private void add(int id) {
            if (id < 0 || id >= MAX_SIZE) {
                throw new IllegalStateException("the id " + id + " of a token is out of range");
            }
            size = Math.max(size, id + 1);
        }
    }
}
