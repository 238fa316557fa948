package dev.lamina.internal.text;

import java.nio.charset.StandardCharsets;

/**
 * Makes text of SentencePiece pieces: U+2581 is a space, the first one is dropped where the model put it there, and
 * byte pieces are characters as far as they are valid UTF-8. Immutable; for any number of threads.
 */
final class PieceDecoder {
    private static final String SPACE = String.valueOf(SentencePieceModel.SPACE);
    private static final char REPLACEMENT = '\ufffd';

    private final SentencePieceModel model;
    private final AddedTokens addedTokens;

    PieceDecoder(SentencePieceModel model, AddedTokens addedTokens) {
        this.model = model;
        this.addedTokens = addedTokens;
    }

    boolean isByte(int id) {
        return id < model.pieces().size() && model.pieces().get(id).type() == SentencePieceModel.Type.BYTE;
    }

    /** Decodes ids; those of neither a piece nor an added token give no text. */
    String decode(long[] ids) {
        StringBuilder text = new StringBuilder();
        byte[] bytes = new byte[ids.length];
        int byteCount = 0;
        boolean dropsSpace = model.addDummyPrefix() || model.removeExtraWhitespaces();
        for (long each : ids) {
            int id = (int) each;
            if (isByte(id)) {
                bytes[byteCount++] = (byte) Integer.parseInt(model.pieces().get(id).text(), 3, 5, 16);
                continue;
            }
            appendUtf8(bytes, byteCount, text);
            byteCount = 0;
            dropsSpace &= text.isEmpty();
            AddedTokens.Token added = addedTokens.get(id);
            if (added != null && added.special()) {
                text.append(added.text());
                continue;
            }
            String piece = added != null ? added.text()
                    : id < model.pieces().size() ? model.pieces().get(id).text() : "";
            if (dropsSpace && piece.startsWith(SPACE)) {
                piece = piece.substring(1);
                dropsSpace = model.removeExtraWhitespaces();
            }
            text.append(piece.replace(SentencePieceModel.SPACE, ' '));
        }
        appendUtf8(bytes, byteCount, text);
        return text.toString();
    }

    /** Appends what is valid UTF-8, and a replacement character for each other byte. */
    private static void appendUtf8(byte[] bytes, int count, StringBuilder text) {
        for (int at = 0; at < count;) {
            int length = length(bytes, at, count);
            if (length == 0) {
                text.append(REPLACEMENT);
                at++;
            } else {
                text.append(new String(bytes, at, length, StandardCharsets.UTF_8));
                at += length;
            }
        }
    }

    /** Bytes of the character at a place; 0 if there is no valid one. */
    private static int length(byte[] bytes, int at, int count) {
        int first = bytes[at] & 0xff;
        int length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
        if (length > count - at) {
            return 0;
        }
        int codePoint = length == 0 ? 0 : first & 0xff >> length;
        for (int i = 1; i < length; i++) {
            if ((bytes[at + i] & 0xc0) != 0x80) {
                return 0;
            }
            codePoint = codePoint << 6 | bytes[at + i] & 0x3f;
        }
        boolean valid = switch (length) {
            case 3 -> codePoint >= 0x800 && (codePoint < 0xd800 || codePoint > 0xdfff);
            case 4 -> codePoint >= 0x10000 && codePoint <= Character.MAX_CODE_POINT;
            default -> true;
        };
        return valid ? length : 0;
    }
}
