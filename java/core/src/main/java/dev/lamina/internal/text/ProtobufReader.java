package dev.lamina.internal.text;

import java.util.Arrays;

/**
 * Reads the fields of a protobuf message one after the other. Whatever is not well formed is an
 * {@link IllegalArgumentException}.
 */
final class ProtobufReader {
    private static final int VARINT = 0;
    private static final int FIXED64 = 1;
    private static final int BYTES = 2;
    private static final int FIXED32 = 5;
    private static final int MAX_VARINT_BYTES = 10;

    private final byte[] bytes;
    private int position;
    private final int end;
    private int field;
    private int wireType;

    ProtobufReader(byte[] bytes) {
        this(bytes, 0, bytes.length);
    }

    private ProtobufReader(byte[] bytes, int start, int end) {
        this.bytes = bytes;
        this.position = start;
        this.end = end;
    }

    /** Goes to the next field; its value must be taken or skipped. Returns false at the end of the message. */
    boolean next() {
        if (position == end) {
            return false;
        }
        long tag = rawVarint();
        field = (int) (tag >>> 3);
        wireType = (int) (tag & 7);
        if (tag >>> 3 == 0 || tag >>> 3 > Integer.MAX_VALUE) {
            throw new IllegalArgumentException("a field without a number at byte " + position);
        }
        return true;
    }

    /** The number of the field. */
    int field() {
        return field;
    }

    /** Takes a whole number. */
    int number() {
        expect(VARINT);
        return (int) rawVarint();
    }

    /** Takes a truth value. */
    boolean flag() {
        expect(VARINT);
        return rawVarint() != 0;
    }

    /** Takes a 32-bit floating point number. */
    float decimal() {
        expect(FIXED32);
        int start = advance(Float.BYTES);
        int bits = 0;
        for (int i = Float.BYTES - 1; i >= 0; i--) {
            bits = bits << 8 | bytes[start + i] & 0xff;
        }
        return Float.intBitsToFloat(bits);
    }

    /** Takes a text. */
    String text() {
        ProtobufReader value = message();
        return TextFiles.utf8(bytes, value.position, value.end - value.position);
    }

    /** Takes bytes. */
    byte[] bytes() {
        ProtobufReader value = message();
        return Arrays.copyOfRange(bytes, value.position, value.end);
    }

    /** Takes a message. */
    ProtobufReader message() {
        expect(BYTES);
        int length = length();
        int start = advance(length);
        return new ProtobufReader(bytes, start, start + length);
    }

    /** Passes over the value. */
    void skip() {
        switch (wireType) {
            case VARINT -> rawVarint();
            case FIXED64 -> advance(Long.BYTES);
            case BYTES -> advance(length());
            case FIXED32 -> advance(Integer.BYTES);
            default -> throw new IllegalArgumentException(
                    "a field of the unknown wire type " + wireType + " at byte " + position);
        }
    }

    private void expect(int type) {
        if (wireType != type) {
            throw new IllegalArgumentException("the field " + field + " has the wire type " + wireType + " and not "
                    + type + " at byte " + position);
        }
    }

    private int length() {
        long length = rawVarint();
        if (length < 0 || length > end - position) {
            throw new IllegalArgumentException("a field that goes beyond the end at byte " + position);
        }
        return (int) length;
    }

    private int advance(int count) {
        if (count > end - position) {
            throw new IllegalArgumentException("it ends in the middle of a field at byte " + position);
        }
        int start = position;
        position += count;
        return start;
    }

    private long rawVarint() {
        long value = 0;
        for (int i = 0; i < MAX_VARINT_BYTES; i++) {
            byte next = bytes[advance(1)];
            value |= (long) (next & 0x7f) << 7 * i;
            if (next >= 0) {
                return value;
            }
        }
        throw new IllegalArgumentException("a number without an end at byte " + position);
    }
}
