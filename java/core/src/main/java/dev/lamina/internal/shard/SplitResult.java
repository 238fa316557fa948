package dev.lamina.internal.shard;

import java.nio.file.Path;
import java.util.List;

/**
 * What a split did.
 *
 * @param alreadyComplete the set of the same model was there already; nothing was copied
 * @param copiedBytes bytes of tensors copied in this run
 * @param rates bytes per second of each folder, if they were measured in this run; else empty
 * @param notes what the user should know of how the matrices were shared out, a sentence each; mostly none
 * @param freed files of the original that were deleted in this run
 * @param kept files of the original that were to be deleted and were not, each with the reason
 */
public record SplitResult(
        boolean alreadyComplete, long copiedBytes, List<Long> rates, List<String> notes, List<Path> freed,
        List<String> kept) {}
