package dev.lamina;

import java.nio.file.Path;

/** Opens models; found by {@link java.util.ServiceLoader}, so that this package depends on no implementation. */
public interface ModelProvider {
    /** Opens the model in a folder. */
    LanguageModel open(Path directory, ModelOptions options);
}
