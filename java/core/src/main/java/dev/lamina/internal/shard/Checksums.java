package dev.lamina.internal.shard;

import dev.lamina.internal.checkpoint.ShardManifest;
import java.nio.ByteBuffer;
import java.util.zip.CRC32C;

/** CRC32C over pieces of a file that are cut at multiples of the manifest's chunk size, and how to join them. */
final class Checksums {
    private static final int CHUNK = ShardManifest.CHUNK_BYTES;

    /** The CRC-32C polynomial, bit-reversed. */
    private static final int POLYNOMIAL = 0x82f63b78;

    private Checksums() {}

    /** Returns the number of pieces that a range of a file is cut into. */
    static int pieces(long offset, long bytes) {
        return bytes == 0 ? 0 : Math.toIntExact((offset + bytes - 1) / CHUNK - offset / CHUNK + 1);
    }

    /** Returns the size of the first piece of a range. */
    static int firstPiece(long offset, long bytes) {
        return (int) Math.min(bytes, CHUNK - offset % CHUNK);
    }

    /**
     * Sums up a range of a file piece by piece, the bytes of which come in any portions.
     */
    static final class Pieces {
        private final int[] checksums;
        private final CRC32C current = new CRC32C();
        private long offset;
        private long left;
        private int pieceLeft;
        private int count;

        Pieces(long offset, long bytes) {
            this.checksums = new int[pieces(offset, bytes)];
            this.offset = offset;
            this.left = bytes;
            this.pieceLeft = firstPiece(offset, bytes);
        }

        /** Adds the next bytes; the buffer keeps its position. */
        void update(ByteBuffer data) {
            ByteBuffer rest = data.duplicate();
            while (rest.hasRemaining()) {
                int length = Math.min(rest.remaining(), pieceLeft);
                current.update(rest.slice(rest.position(), length));
                rest.position(rest.position() + length);
                offset += length;
                left -= length;
                pieceLeft -= length;
                if (pieceLeft == 0) {
                    checksums[count++] = (int) current.getValue();
                    current.reset();
                    pieceLeft = firstPiece(offset, left);
                }
            }
        }

        /** Returns one checksum a piece, once all bytes were added. */
        int[] finish() {
            if (left != 0) {
                throw new IllegalStateException(left + " bytes were not added");
            }
            return checksums;
        }
    }

    /** Joins the checksums of the pieces of a file, which come in the order of their offsets, into one a chunk. */
    static final class Chunks {
        private final int[] checksums;
        private long offset;

        Chunks(long fileBytes) {
            this.checksums = new int[ShardManifest.chunks(fileBytes)];
        }

        /** Adds a range and the checksums of its pieces. */
        void add(long bytes, int[] pieces) {
            long left = bytes;
            for (int piece : pieces) {
                int length = firstPiece(offset, left);
                int chunk = Math.toIntExact(offset / CHUNK);
                checksums[chunk] = offset % CHUNK == 0 ? piece : join(checksums[chunk], piece, length);
                offset += length;
                left -= length;
            }
        }

        int[] finish() {
            return checksums;
        }
    }

    /**
     * Returns the checksum of two byte strings one after the other. Appending n zero bytes multiplies a CRC by x^(8n)
     * modulo the polynomial, and CRCs are linear (as in zlib's crc32_combine).
     */
    static int join(int first, int second, long secondBytes) {
        int power = 1 << 31; // the polynomial 1
        int square = 1 << 23; // x^8: one byte
        for (long n = secondBytes; n > 0; n >>= 1) {
            if ((n & 1) == 1) {
                power = multiply(square, power);
            }
            square = multiply(square, square);
        }
        return multiply(power, first) ^ second;
    }

    /** Multiplies two polynomials over GF(2) modulo the CRC's, both bit-reversed: the highest bit is x^0. */
    private static int multiply(int a, int b) {
        int product = 0;
        int shifted = b;
        for (int bit = 31; bit >= 0; bit--) {
            if ((a >>> bit & 1) == 1) {
                product ^= shifted;
            }
            shifted = (shifted & 1) == 1 ? shifted >>> 1 ^ POLYNOMIAL : shifted >>> 1;
        }
        return product;
    }
}
