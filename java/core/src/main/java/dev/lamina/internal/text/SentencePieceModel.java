package dev.lamina.internal.text;

import dev.lamina.LaminaException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * A SentencePiece model ({@code tokenizer.model}): a protobuf message {@code ModelProto} of {@code
 * sentencepiece_model.proto}, whose numbers of fields and defaults are here.
 *
 * @param pieces all pieces; the position is the id
 * @param ids the position of each piece
 * @param unigram whether pieces are chosen by the sum of their scores; merged pair by pair otherwise
 * @param byteFallback whether unknown characters become byte pieces
 * @param addDummyPrefix whether a text gets a space in front
 * @param removeExtraWhitespaces whether spaces at both ends go, and all but one of a run
 * @param escapeWhitespaces whether spaces are written as U+2581
 * @param charsmap compiled rules of normalisation; empty for none
 */
record SentencePieceModel(
        List<Piece> pieces,
        Map<String, Integer> ids,
        boolean unigram,
        boolean byteFallback,
        int unkId,
        String bosPiece,
        String eosPiece,
        boolean addDummyPrefix,
        boolean removeExtraWhitespaces,
        boolean escapeWhitespaces,
        byte[] charsmap) {
    /** What a space is written as. */
    static final char SPACE = '\u2581';

    private static final int MAX_BYTES = 64 << 20;
    private static final int MAX_PIECES = 1 << 20;
    private static final int BYTES = 256;
    private static final List<Type> TYPES = List.of(Type.values());

    /** A piece and how likely it is: larger scores come first. */
    record Piece(String text, float score, Type type) {}

    /** What a piece is for, in the order of their numbers. */
    enum Type { NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE }

    /**
     * Reads a model.
     *
     * @throws LaminaException if the file is no such model, or one that is not supported
     */
    static SentencePieceModel read(Path file) {
        byte[] bytes = TextFiles.read(file, MAX_BYTES);
        try {
            return new Reading().read(new ProtobufReader(bytes));
        } catch (IllegalArgumentException e) {
            throw TextFiles.unusable(file, e);
        } catch (UnsupportedOperationException e) {
            throw new LaminaException(file + " is a SentencePiece model with " + e.getMessage()
                    + ", which is not supported: use a tokenizer.json of the model", e);
        }
    }

    /** Returns the id of a control piece, or null. */
    @Nullable Integer controlId(String piece) {
        Integer id = ids.get(piece);
        return id != null && pieces.get(id).type() == Type.CONTROL ? id : null;
    }

    /** Returns the name of a byte piece. */
    static String bytePiece(int value) {
        return String.format(Locale.ROOT, "<0x%02X>", value);
    }

    /** The values as they are read. */
    private static final class Reading {
        private final List<Piece> pieces = new ArrayList<>();
        private final Map<String, Integer> ids = new HashMap<>();
        private int modelType = 1;
        private boolean whitespaceAsSuffix;
        private boolean byteFallback;
        private String bosPiece = "<s>";
        private String eosPiece = "</s>";
        private boolean addDummyPrefix = true;
        private boolean removeExtraWhitespaces = true;
        private boolean escapeWhitespaces = true;
        private byte[] charsmap = {};
        private boolean denormalises;

        SentencePieceModel read(ProtobufReader model) {
            while (model.next()) {
                switch (model.field()) {
                    case 1 -> add(piece(model.message()));
                    case 2 -> readTrainer(model.message());
                    case 3 -> readNormalizer(model.message());
                    case 5 -> denormalises = hasCharsmap(model.message());
                    default -> model.skip();
                }
            }
            refuseUnsupported();
            return new SentencePieceModel(pieces, ids, modelType == 1, byteFallback, unkId(), bosPiece, eosPiece,
                    addDummyPrefix, removeExtraWhitespaces, escapeWhitespaces, charsmap);
        }

        private void add(Piece piece) {
            if (pieces.size() == MAX_PIECES) {
                throw new IllegalArgumentException("more than " + MAX_PIECES + " pieces");
            }
            if (ids.put(piece.text, pieces.size()) != null) {
                throw new IllegalArgumentException("the piece " + TextFiles.quote(piece.text) + " twice");
            }
            pieces.add(piece);
        }

        private static Piece piece(ProtobufReader message) {
            String text = "";
            float score = 0;
            int type = 1;
            while (message.next()) {
                switch (message.field()) {
                    case 1 -> text = message.text();
                    case 2 -> score = message.decimal();
                    case 3 -> type = message.number();
                    default -> message.skip();
                }
            }
            if (text.isEmpty()) {
                throw new IllegalArgumentException("a piece without text");
            }
            if (!Float.isFinite(score)) {
                throw new IllegalArgumentException("the score " + score + " of " + TextFiles.quote(text));
            }
            if (type < 1 || type > TYPES.size()) {
                throw new IllegalArgumentException("the unknown type " + type + " of " + TextFiles.quote(text));
            }
            return new Piece(text, score, TYPES.get(type - 1));
        }

        private void readTrainer(ProtobufReader message) {
            while (message.next()) {
                switch (message.field()) {
                    case 3 -> modelType = message.number();
                    case 24 -> whitespaceAsSuffix = message.flag();
                    case 35 -> byteFallback = message.flag();
                    case 46 -> bosPiece = message.text();
                    case 47 -> eosPiece = message.text();
                    default -> message.skip();
                }
            }
        }

        private void readNormalizer(ProtobufReader message) {
            while (message.next()) {
                switch (message.field()) {
                    case 2 -> charsmap = message.bytes();
                    case 3 -> addDummyPrefix = message.flag();
                    case 4 -> removeExtraWhitespaces = message.flag();
                    case 5 -> escapeWhitespaces = message.flag();
                    default -> message.skip();
                }
            }
        }

        private static boolean hasCharsmap(ProtobufReader message) {
            boolean has = false;
            while (message.next()) {
                has |= message.field() == 2;
                message.skip();
            }
            return has;
        }

        private void refuseUnsupported() {
            if (modelType != 1 && modelType != 2) {
                throw new UnsupportedOperationException("model_type " + modelType + " (neither UNIGRAM nor BPE)");
            }
            if (whitespaceAsSuffix) {
                throw new UnsupportedOperationException("treat_whitespace_as_suffix");
            }
            if (denormalises) {
                throw new UnsupportedOperationException("a denormalizer");
            }
            // Merges may go through them, and have to be undone afterwards.
            if (modelType == 2 && pieces.stream().anyMatch(piece -> piece.type() == Type.UNUSED)) {
                throw new UnsupportedOperationException("UNUSED pieces and merges");
            }
        }

        private int unkId() {
            int unk = -1;
            for (int id = 0; id < pieces.size(); id++) {
                if (pieces.get(id).type() == Type.UNKNOWN) {
                    if (unk >= 0) {
                        throw new IllegalArgumentException("two unknown pieces");
                    }
                    unk = id;
                }
            }
            if (unk < 0) {
                throw new IllegalArgumentException("no unknown piece");
            }
            for (int value = 0; byteFallback && value < BYTES; value++) {
                Integer id = ids.get(bytePiece(value));
                if (id == null || pieces.get(id).type() != Type.BYTE) {
                    throw new IllegalArgumentException("no byte piece " + bytePiece(value));
                }
            }
            return unk;
        }
    }
}
