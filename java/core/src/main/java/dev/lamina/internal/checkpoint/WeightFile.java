package dev.lamina.internal.checkpoint;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/** A file of weights, of which all has been read and checked but the tensors themselves. */
public sealed interface WeightFile permits SafetensorsHeader, TorchFile {
    /** Returns the file. */
    Path file();

    /** Returns its size. */
    long fileBytes();

    /** Returns its tensors in the order of their offsets. */
    List<Tensor> tensors();

    /**
     * Reads and checks what describes the tensors of a file.
     *
     * @param file a file of PyTorch if its name ends with .bin, .pt or .pth, or else a safetensors file
     * @throws dev.lamina.LaminaException if the file is not sound
     * @throws IOException if it cannot be read
     */
    static WeightFile read(Path file) throws IOException {
        return isTorch(file) ? TorchFile.read(file) : SafetensorsHeader.read(file);
    }

    /** Whether a file is one of PyTorch, by its name. */
    static boolean isTorch(Path file) {
        String name = file.getFileName().toString();
        return name.endsWith(".bin") || name.endsWith(".pt") || name.endsWith(".pth");
    }
}
