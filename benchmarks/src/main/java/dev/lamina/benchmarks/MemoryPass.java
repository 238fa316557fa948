package dev.lamina.benchmarks;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** What memory gives: a plain pass over some of it. */
final class MemoryPass {
    private static final ValueLayout.OfLong WORD = ValueLayout.JAVA_LONG;

    private MemoryPass() {}

    /** Sums all words, in a form that a compiler makes vectors of. Returns the sum. */
    static long read(MemorySegment memory) {
        long words = memory.byteSize() / Long.BYTES;
        long sum = 0;
        for (long first = 0; first < words; first += 1 << 20) { // a loop over int is what becomes vectors
            int count = (int) Math.min(1 << 20, words - first);
            var slice = memory.asSlice(first * Long.BYTES, (long) count * Long.BYTES);
            for (int i = 0; i < count; i++) {
                sum += slice.getAtIndex(WORD, i);
            }
        }
        return sum;
    }
}
