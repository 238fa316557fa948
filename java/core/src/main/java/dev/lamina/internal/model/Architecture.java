package dev.lamina.internal.model;

import java.util.Set;

/** A family of models: turns a configuration into a program. */
public interface Architecture {
    /** Name of the family, for people. */
    String name();

    /** Values of {@code architectures} in config.json that this family builds. */
    Set<String> architectures();

    /** Values of {@code model_type} in config.json that this family builds. */
    Set<String> modelTypes();

    /**
     * Records the program of a model.
     *
     * @param config its config.json
     * @param builder where the ops are recorded
     */
    Program build(ModelConfig config, ProgramBuilder builder);
}
