package dev.lamina;

/**
 * How far a sweep is.
 *
 * @param sweep number of the sweep in this call, from 0
 * @param rows token positions that it computes
 * @param prefill whether it works on prompts only, so that no token comes out of it
 * @param bytesDone bytes of weights that it has passed
 * @param bytesTotal bytes of weights of a sweep
 * @param diskBytes how many of the bytes that it has passed came from disk for it
 * @param residentBytes bytes of weights that stay in memory
 */
public record SweepProgress(long sweep, int rows, boolean prefill, long bytesDone, long bytesTotal, long diskBytes,
        long residentBytes) {}
