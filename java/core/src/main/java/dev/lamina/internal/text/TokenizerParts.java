package dev.lamina.internal.text;

import com.google.gson.JsonElement;
import dev.lamina.LaminaException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * A tokenizer without {@code tokenizer.json}, made of the files that its model was published with: a SentencePiece
 * model, a tiktoken vocabulary, or {@code vocab.json} and {@code merges.txt}. What is special in a text, and what
 * belongs around it, is not the engine's business here: so a text can also be encoded as nothing but text.
 *
 * @param engine the {@code tokenizer.json} of what remains
 * @param normalizer what texts go through first; null for nothing
 * @param pieces decodes; null where the engine does
 * @param addedTokens special and other tokens that texts are cut at
 * @param prefixesEach whether every text between special tokens gets the space of the model in front, not the first
 * @param size the largest id, plus 1
 * @param prefix ids before a text
 * @param suffix ids behind a text
 * @param bosId the token that begins a text; null for none
 */
record TokenizerParts(
        String engine,
        @Nullable SentencePieceNormalizer normalizer,
        @Nullable PieceDecoder pieces,
        AddedTokens addedTokens,
        boolean prefixesEach,
        int size,
        List<Integer> prefix,
        List<Integer> suffix,
        @Nullable Integer bosId) {
    private static final String MODEL_FILE = "tokenizer.model";
    private static final String QWEN_FILE = "qwen.tiktoken";
    private static final String VOCABULARY_FILE = "vocab.json";
    private static final String MERGES_FILE = "merges.txt";
    static final String CHATGLM = "ChatGLMTokenizer";
    private static final String GLM4 = "ChatGLM4Tokenizer";
    private static final String QWEN = "QWenTokenizer";

    private static final int MAX_MERGES_BYTES = 64 << 20;
    private static final int MAX_TOKENS = 1 << 20;
    private static final int QWEN_EXTRAS = 205;
    private static final int LLAMA3_RESERVED = 256;

    /** Fields of protobuf messages and base64 begin differently. */
    private static final int PIECES_TAG = 0x0a;

    /** Returns the file that the tokenizer of a model would be made of, or null. */
    static @Nullable Path file(Path modelDirectory) {
        for (String name : List.of(MODEL_FILE, QWEN_FILE, VOCABULARY_FILE)) {
            Path file = modelDirectory.resolve(name);
            boolean complete = !name.equals(VOCABULARY_FILE)
                    || Files.isRegularFile(modelDirectory.resolve(MERGES_FILE));
            if (complete && Files.isRegularFile(file)) {
                return file;
            }
        }
        return null;
    }

    /**
     * Makes the tokenizer.
     *
     * @param file what {@link #file} returned
     * @throws LaminaException if a file is damaged, or the kind of tokenizer is not known
     */
    static TokenizerParts read(Path file, TokenizerConfig config) {
        try {
            if (file.endsWith(VOCABULARY_FILE)) {
                return ofPairs(file, config);
            }
            boolean tiktoken = file.endsWith(QWEN_FILE) || TextFiles.firstByte(file) != PIECES_TAG;
            return tiktoken ? ofTiktoken(file, config) : ofSentencePiece(file, config);
        } catch (IllegalArgumentException e) {
            throw TextFiles.unusable(file, e);
        }
    }

    private static TokenizerParts ofSentencePiece(Path file, TokenizerConfig config) {
        SentencePieceModel model = SentencePieceModel.read(file);
        boolean chatGlm = config.tokenizerClass().equals(CHATGLM);
        int size = model.pieces().size();
        List<AddedTokens.Token> tokens = new ArrayList<>();
        for (int id = 0; id < size; id++) {
            SentencePieceModel.Piece piece = model.pieces().get(id);
            switch (piece.type()) {
                case UNKNOWN, CONTROL -> tokens.add(AddedTokens.Token.special(id, piece.text(), true));
                // The engine recognises these.
                case USER_DEFINED -> tokens.add(new AddedTokens.Token(id, piece.text(), false, false, false, false));
                default -> { }
            }
        }
        if (chatGlm) {
            // Recognised nowhere: words begin with "sop".
            for (String text : List.of("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop",
                    "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")) {
                tokens.add(AddedTokens.Token.special(size++, text, false));
            }
        }
        AddedTokens added = addedTokens(tokens, config, model.ids());
        Integer bos = first(id(config.token("bos_token"), added), model.controlId(model.bosPiece()));
        Integer eos = first(id(config.token("eos_token"), added), model.controlId(model.eosPiece()));
        List<Integer> prefix = chatGlm ? ids(added, "[gMASK]", "sop")
                : bos != null && config.flag("add_bos_token", true) ? List.of(bos) : List.of();
        List<Integer> suffix = eos != null && config.flag("add_eos_token", false) ? List.of(eos) : List.of();
        return new TokenizerParts(EngineText.of(model), new SentencePieceNormalizer(model),
                new PieceDecoder(model, added), added, config.flag("legacy", true), size(size, added), prefix, suffix,
                bos);
    }

    private static TokenizerParts ofTiktoken(Path file, TokenizerConfig config) {
        List<String> ranks = TiktokenFile.read(file);
        int size = ranks.size();
        String kind = config.tokenizerClass();
        boolean qwen = kind.equals(QWEN) || file.endsWith(QWEN_FILE);
        if (!qwen && !List.of("", GLM4, "LlamaTokenizer", "PreTrainedTokenizer").contains(kind)) {
            throw new LaminaException(file + " is a tiktoken vocabulary for the tokenizer_class " + kind
                    + ", whose way to cut text is not known: use a tokenizer.json of the model");
        }
        List<AddedTokens.Token> tokens = new ArrayList<>();
        List<String> names = qwen ? qwenTokens()
                : config.addedTokens().isEmpty() && !kind.equals(GLM4) ? llama3Tokens() : List.of();
        for (String name : names) {
            tokens.add(AddedTokens.Token.special(size++, name, true));
        }
        Map<String, Integer> vocabulary = new LinkedHashMap<>();
        ranks.forEach(token -> vocabulary.put(token, vocabulary.size()));
        AddedTokens added = addedTokens(tokens, config, vocabulary);
        List<Integer> prefix = kind.equals(GLM4) ? ids(added, "[gMASK]", "<sop>") : List.of();
        String engine = byteLevel(vocabulary, null, added, true, qwen ? EngineText.Cut.QWEN : EngineText.Cut.LLAMA3);
        if (qwen || kind.equals(GLM4)) {
            return new TokenizerParts(engine, null, null, added, false, size(size, added), prefix, List.of(), null);
        }
        Integer bos = first(id(config.token("bos_token"), added), id("<|begin_of_text|>", added));
        return new TokenizerParts(engine, null, null, added, false, size(size, added),
                bos != null && config.flag("add_bos_token", true) ? List.of(bos) : List.of(), List.of(), bos);
    }

    private static TokenizerParts ofPairs(Path file, TokenizerConfig config) {
        String kind = config.tokenizerClass();
        EngineText.Cut cut = switch (kind) {
            case "Qwen2Tokenizer" -> EngineText.Cut.QWEN;
            case "GPT2Tokenizer", "CodeGenTokenizer" -> EngineText.Cut.GPT2;
            default -> throw new LaminaException(file + " is a vocabulary for the tokenizer_class "
                    + TextFiles.quote(kind)
                    + ", whose way to cut text is not known: use a tokenizer.json of the model");
        };
        Map<String, Integer> vocabulary = new LinkedHashMap<>();
        for (Map.Entry<String, JsonElement> token : TokenizerConfig.readObject(file).entrySet()) {
            int id = TokenizerConfig.id(token.getValue());
            if (id < 0 || id >= MAX_TOKENS) {
                throw new IllegalArgumentException("the id of the token " + TextFiles.quote(token.getKey()));
            }
            vocabulary.put(token.getKey(), id);
        }
        int size = vocabulary.values().stream().mapToInt(Integer::intValue).max().orElse(-1) + 1;
        AddedTokens added = addedTokens(List.of(), config, vocabulary);
        String engine = byteLevel(vocabulary, merges(file.resolveSibling(MERGES_FILE)), added, false, cut);
        Integer bos = id(config.token("bos_token"), added);
        return new TokenizerParts(engine, null, null, added, false, size(size, added),
                bos != null && config.flag("add_bos_token", false) ? List.of(bos) : List.of(), List.of(), bos);
    }

    private static List<String[]> merges(Path file) {
        List<String[]> merges = new ArrayList<>();
        byte[] bytes = TextFiles.read(file, MAX_MERGES_BYTES);
        try {
            for (String line : (Iterable<String>) TextFiles.utf8(bytes, 0, bytes.length).lines()::iterator) {
                if (line.isEmpty() || merges.isEmpty() && line.startsWith("#version")) {
                    continue;
                }
                String[] pair = line.split(" ", -1);
                if (pair.length != 2 || pair[0].isEmpty() || pair[1].isEmpty()) {
                    throw new IllegalArgumentException("the line " + TextFiles.quote(line) + ", which is no pair");
                }
                merges.add(pair);
            }
        } catch (IllegalArgumentException e) {
            throw TextFiles.unusable(file, e);
        }
        return merges;
    }

    /** The engine of a byte-level vocabulary, which also decodes the added tokens: they are in it, but no merge is. */
    private static String byteLevel(Map<String, Integer> vocabulary, @Nullable List<String[]> merges, AddedTokens added,
            boolean whole, EngineText.Cut cut) {
        Map<String, Integer> all = new LinkedHashMap<>(vocabulary);
        for (AddedTokens.Token token : added.all()) {
            String text = ByteAlphabet.write(token.text().getBytes(StandardCharsets.UTF_8));
            Integer other = all.putIfAbsent(text, token.id());
            if (other != null && other != token.id()) {
                throw new IllegalArgumentException("the token " + TextFiles.quote(token.text()) + " twice");
            }
        }
        return EngineText.of(all, merges, vocabulary.size(), whole, cut);
    }

    /** Adds what the configuration says to the tokens of the vocabulary itself. */
    private static AddedTokens addedTokens(
            List<AddedTokens.Token> own, TokenizerConfig config, Map<String, Integer> vocabulary) {
        Map<String, AddedTokens.Token> tokens = new LinkedHashMap<>();
        own.forEach(token -> tokens.put(token.text(), token));
        for (AddedTokens.Token token : config.addedTokens()) {
            AddedTokens.Token known = tokens.get(token.text());
            tokens.put(token.text(), known == null || known.inText() ? token
                    : new AddedTokens.Token(known.id(), known.text(), token.special(), false, false, false));
        }
        for (Object value : config.specialTokens().values()) {
            for (Object text : value instanceof List<?> list ? list : List.of(value)) {
                AddedTokens.Token known = tokens.get(text);
                Integer id = known != null ? Integer.valueOf(known.id()) : vocabulary.get(text);
                if (id != null) {
                    tokens.put(text.toString(), known == null ? AddedTokens.Token.special(id, text.toString(), true)
                            : new AddedTokens.Token(id, known.text(), true, known.inText(), known.stripsLeft(),
                                    known.stripsRight()));
                }
            }
        }
        return new AddedTokens(tokens.values());
    }

    private static List<String> qwenTokens() {
        List<String> names = new ArrayList<>(List.of("<|endoftext|>", "<|im_start|>", "<|im_end|>"));
        for (int i = 0; i < QWEN_EXTRAS; i++) {
            names.add("<|extra_" + i + "|>");
        }
        return names;
    }

    private static List<String> llama3Tokens() {
        List<String> names = new ArrayList<>();
        Map<Integer, String> named = new HashMap<>(Map.of(0, "<|begin_of_text|>", 1, "<|end_of_text|>",
                6, "<|start_header_id|>", 7, "<|end_header_id|>", 9, "<|eot_id|>"));
        int reserved = 0;
        for (int i = 0; i < LLAMA3_RESERVED; i++) {
            names.add(named.containsKey(i) ? named.get(i) : "<|reserved_special_token_" + reserved++ + "|>");
        }
        return names;
    }

    private static int size(int size, AddedTokens added) {
        return Math.max(size, added.all().stream().mapToInt(AddedTokens.Token::id).max().orElse(-1) + 1);
    }

    private static @Nullable Integer id(@Nullable String text, AddedTokens added) {
        AddedTokens.Token token = text == null ? null : added.get(text);
        return token == null ? null : Integer.valueOf(token.id());
    }

    private static List<Integer> ids(AddedTokens added, String... texts) {
        List<Integer> ids = new ArrayList<>();
        for (String text : texts) {
            AddedTokens.Token token = added.get(text);
            if (token == null) {
                throw new IllegalArgumentException("no token " + text);
            }
            ids.add(token.id());
        }
        return ids;
    }

    private static @Nullable Integer first(@Nullable Integer one, @Nullable Integer other) {
        return one != null ? one : other;
    }
}
