package dev.lamina.internal.text;

import com.google.gson.stream.JsonWriter;
import java.io.IOException;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** Writes other files of tokenizers as a {@code tokenizer.json}, which is all that the tokenizers library reads. */
final class EngineText {
    /** Characters that looking for merges may compare: a vocabulary of published models needs a tenth at most. */
    private static final long MAX_MERGE_WORK = 1L << 27;

    /** How a byte-level tokenizer cuts text before it merges bytes. */
    enum Cut {
        GPT2(null, false),
        QWEN(pattern("\\p{N}"), true),
        LLAMA3(pattern("\\p{N}{1,3}"), false);

        private final @Nullable String pattern;
        private final boolean nfc;

        Cut(@Nullable String pattern, boolean nfc) {
            this.pattern = pattern;
            this.nfc = nfc;
        }

        private static String pattern(String numbers) {
            return "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" + numbers
                    + "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
        }
    }

    private static final int CHARACTERS_OF_TOKEN = 32; // about

    private final StringWriter text;
    private final JsonWriter json;

    private EngineText(int tokens) {
        text = new StringWriter(CHARACTERS_OF_TOKEN * tokens);
        json = new JsonWriter(text);
        json.setSerializeNulls(true);
    }

    /** The engine of a SentencePiece model: it takes text that was normalised before. */
    static String of(SentencePieceModel model) {
        return new EngineText(model.pieces().size()).write(engine -> {
            engine.writeUserDefined(model);
            engine.json.name("model").beginObject();
            if (model.unigram()) {
                engine.writeUnigram(model);
            } else {
                engine.writePairs(model);
            }
            engine.json.endObject();
        });
    }

    /**
     * The engine of a byte-level vocabulary.
     *
     * @param ids all tokens in the {@link ByteAlphabet}, those included that are never merged
     * @param merges pairs in order; null to find them: all pairs of tokens that make one, the smallest id first
     * @param mergeable ids below it are those of tokens that merges make
     * @param whole whether a word that is a token is that token, whatever its merges
     */
    static String of(Map<String, Integer> ids, @Nullable List<String[]> merges, int mergeable, boolean whole, Cut cut) {
        return new EngineText(ids.size()).write(engine -> {
            JsonWriter json = engine.json;
            if (cut.nfc) {
                json.name("normalizer").beginObject().name("type").value("NFC").endObject();
            }
            json.name("pre_tokenizer").beginObject().name("type").value("Sequence");
            json.name("pretokenizers").beginArray();
            if (cut.pattern != null) {
                json.beginObject().name("type").value("Split");
                json.name("pattern").beginObject().name("Regex").value(cut.pattern).endObject();
                json.name("behavior").value("Isolated").name("invert").value(false).endObject();
            }
            engine.writeByteLevel(cut.pattern == null);
            json.endArray().endObject();
            json.name("decoder");
            engine.writeByteLevel(true);
            json.name("model").beginObject();
            engine.writePairsModel(null, false, whole);
            json.name("vocab").beginObject();
            for (var token : ids.entrySet()) {
                json.name(token.getKey()).value(token.getValue());
            }
            json.endObject().name("merges").beginArray();
            if (merges == null) {
                List<String> order = ids.entrySet().stream().filter(token -> token.getValue() < mergeable)
                        .sorted(Map.Entry.comparingByValue()).map(Map.Entry::getKey).toList();
                engine.writeMerges(order, ids);
            } else {
                for (String[] merge : merges) {
                    json.beginArray().value(merge[0]).value(merge[1]).endArray();
                }
            }
            json.endArray().endObject();
        });
    }

    /** A part of the file. */
    @FunctionalInterface
    private interface Part {
        void write(EngineText engine) throws IOException;
    }

    private String write(Part part) {
        try {
            json.beginObject().name("version").value("1.0");
            part.write(this);
            json.endObject().close();
            return text.toString();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private void writeByteLevel(boolean useRegex) throws IOException {
        json.beginObject().name("type").value("ByteLevel").name("add_prefix_space").value(false);
        json.name("trim_offsets").value(false).name("use_regex").value(useRegex).endObject();
    }

    /** User-defined pieces are cut out of the text before the others are looked for. */
    private void writeUserDefined(SentencePieceModel model) throws IOException {
        json.name("added_tokens").beginArray();
        for (int id = 0; id < model.pieces().size(); id++) {
            SentencePieceModel.Piece piece = model.pieces().get(id);
            if (piece.type() == SentencePieceModel.Type.USER_DEFINED) {
                json.beginObject().name("id").value(id).name("content").value(piece.text());
                for (String flag : List.of("single_word", "lstrip", "rstrip", "normalized", "special")) {
                    json.name(flag).value(false);
                }
                json.endObject();
            }
        }
        json.endArray();
    }

    private void writeUnigram(SentencePieceModel model) throws IOException {
        json.name("type").value("Unigram").name("unk_id").value(model.unkId());
        json.name("byte_fallback").value(model.byteFallback());
        double least = model.pieces().stream().filter(piece -> piece.type() == SentencePieceModel.Type.NORMAL)
                .mapToDouble(SentencePieceModel.Piece::score).min().orElse(0);
        json.name("vocab").beginArray();
        for (SentencePieceModel.Piece piece : model.pieces()) {
            // Pieces that text never becomes are worse than anything else, unknown characters (least - 10) included.
            double score = piece.type() == SentencePieceModel.Type.NORMAL
                    ? piece.score()
                    : piece.text().length() * (least - 10) - 1;
            json.beginArray().value(piece.text()).value(score).endArray();
        }
        json.endArray();
    }

    private void writePairs(SentencePieceModel model) throws IOException {
        writePairsModel(model.pieces().get(model.unkId()).text(), model.byteFallback(), false);
        json.name("vocab").beginObject();
        for (int id = 0; id < model.pieces().size(); id++) {
            json.name(model.pieces().get(id).text()).value(id);
        }
        json.endObject().name("merges").beginArray();
        List<SentencePieceModel.Piece> order = new ArrayList<>(model.pieces());
        order.removeIf(piece -> piece.type() != SentencePieceModel.Type.NORMAL);
        order.sort(Comparator.comparingDouble(SentencePieceModel.Piece::score).reversed());
        writeMerges(order.stream().map(SentencePieceModel.Piece::text).toList(), model.ids());
        json.endArray();
    }

    private void writePairsModel(@Nullable String unknown, boolean byteFallback, boolean whole) throws IOException {
        json.name("type").value("BPE").name("dropout").nullValue().name("unk_token").value(unknown);
        json.name("continuing_subword_prefix").nullValue().name("end_of_word_suffix").nullValue();
        json.name("fuse_unk").value(unknown != null).name("byte_fallback").value(byteFallback);
        json.name("ignore_merges").value(whole);
    }

    /** Writes all pairs of these tokens that make one of them, in the order of what they make, then of their ids. */
    private void writeMerges(List<String> order, Map<String, Integer> ids) throws IOException {
        long work = order.stream().mapToLong(token -> (long) token.length() * token.length()).sum();
        if (work > MAX_MERGE_WORK) {
            throw new IllegalArgumentException("its tokens are too long");
        }
        PieceTable mergeable = new PieceTable(order.size());
        order.forEach(token -> mergeable.put(token, ids.getOrDefault(token, 0)));
        List<Pair> pairs = new ArrayList<>();
        for (String token : order) {
            pairs.clear();
            mergeable.cuts(token, (left, right, at) -> pairs.add(new Pair(left, right, at)));
            pairs.sort(Comparator.comparingInt(Pair::left).thenComparingInt(Pair::right));
            for (Pair pair : pairs) {
                json.beginArray().value(token.substring(0, pair.at)).value(token.substring(pair.at)).endArray();
            }
        }
    }

    /** The ids of two tokens that make a third, cut at {@code at}. */
    private record Pair(int left, int right, int at) {}
}
