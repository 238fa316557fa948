package dev.lamina.internal.generate;

import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.ModelProvider;
import java.nio.file.Path;

/** The provider behind {@link LanguageModel#open(String, ModelOptions)}. */
public final class StreamedModelProvider implements ModelProvider {
    @Override
    public LanguageModel open(Path directory, ModelOptions options) {
        return StreamedModel.open(directory, options);
    }
}
