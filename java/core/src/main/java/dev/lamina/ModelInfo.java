package dev.lamina;

import java.nio.file.Path;

/**
 * What a model is.
 *
 * @param directory where its files are
 * @param architecture its family
 * @param split whether it is a shard set, with checksums
 * @param layers transformer layers
 * @param vocabulary tokens that it can produce
 * @param contextLimit positions that it was made for
 * @param parameters numbers in its weights
 * @param weightBytes bytes of weights in one sweep, if its rows choose all experts
 * @param kvBytesPerToken bytes that one position takes in the KV cache, as long as no window has left it behind
 * @param reading how its files are read, for people: {@code "direct: "} and the way, or {@code "buffered: "} and why
 * @param device what computes, such as {@code "cpu (avx512, 2 threads)"}
 */
public record ModelInfo(
        Path directory,
        String architecture,
        boolean split,
        int layers,
        int vocabulary,
        int contextLimit,
        long parameters,
        long weightBytes,
        long kvBytesPerToken,
        String reading,
        String device) {}
