package dev.lamina;

/**
 * What a generation took.
 *
 * @param promptTokens tokens of the prompt
 * @param cachedTokens how many of those were in the KV cache already, from an earlier turn
 * @param generatedTokens tokens that were generated
 * @param prefillSeconds time until the first token was sampled
 * @param decodeSeconds time from then on
 * @param sweeps trips through all weights
 * @param diskBytes bytes of weights that were read from disk for those sweeps
 * @param embeddingBytes bytes of embedding rows that were read from disk
 * @param paddingBytes bytes that were read only because direct reads are aligned
 * @param unusedReadAheadBytes bytes that were read ahead and dropped, or not used when the call ended (the next call
 *     may)
 * @param diskWaitSeconds time in which the computation waited for the disk
 * @param residentBytes bytes of weights that stay in memory
 * @param peakHostBytes most host memory that Lamina held: staging ring, resident panels, KV caches, activations
 * @param expertsUsed experts of mixtures that the rows chose, each counted once a sweep and layer
 * @param expertsRead how many of these were read from disk, in part at least
 * @param expertBytes bytes of weights of experts that were read from disk, which are among {@code diskBytes}
 * @param predictedExpertBytes how many of these were read, or begun to be, because they were predicted
 * @param mispredictedExpertBytes bytes of weights of experts that were read because they were predicted, and that no
 *     row chose; neither among {@code diskBytes} nor among {@code unusedReadAheadBytes}
 */
public record GenerationStats(
        int promptTokens,
        int cachedTokens,
        int generatedTokens,
        double prefillSeconds,
        double decodeSeconds,
        long sweeps,
        long diskBytes,
        long embeddingBytes,
        long paddingBytes,
        long unusedReadAheadBytes,
        double diskWaitSeconds,
        long residentBytes,
        long peakHostBytes,
        long expertsUsed,
        long expertsRead,
        long expertBytes,
        long predictedExpertBytes,
        long mispredictedExpertBytes) {
    /** The share of the experts that rows chose which were in memory; 0 if no row chose one. */
    public double expertHitRate() {
        return expertsUsed == 0 ? 0 : 1 - (double) expertsRead / expertsUsed;
    }

    /** Generated tokens per second after the first; 0 if there are none. */
    public double tokensPerSecond() {
        return generatedTokens < 2 || decodeSeconds == 0 ? 0 : (generatedTokens - 1) / decodeSeconds;
    }
}
