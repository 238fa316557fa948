package dev.lamina;

import static com.tngtech.archunit.library.Architectures.layeredArchitecture;
import static com.tngtech.archunit.library.dependencies.SlicesRuleDefinition.slices;
import static org.junit.jupiter.api.Assertions.assertFalse;

import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Holds the arrows of ARCHITECTURE.md: dependencies point one way, and no two packages need each other. */
class ArchitectureTest {
    private static JavaClasses classes;

    @BeforeAll
    static void importClasses() {
        classes = new ClassFileImporter()
                .withImportOption(ImportOption.Predefined.DO_NOT_INCLUDE_TESTS)
                .importPackages("dev.lamina");
        assertFalse(classes.isEmpty());
    }

    @Test
    void dependenciesPointOneWay() {
        layeredArchitecture().consideringOnlyDependenciesInLayers()
                .layer("api").definedBy("dev.lamina")
                .layer("bindings").definedBy("dev.lamina.bindings..")
                .layer("runtime").definedBy("dev.lamina.internal.runtime..")
                .layer("checkpoint").definedBy("dev.lamina.internal.checkpoint..")
                .layer("model").definedBy("dev.lamina.internal.model..")
                .layer("shard").definedBy("dev.lamina.internal.shard..")
                .layer("stream").definedBy("dev.lamina.internal.stream..")
                .layer("telemetry").definedBy("dev.lamina.internal.telemetry..")
                .layer("text").definedBy("dev.lamina.internal.text..")
                .layer("generate").definedBy("dev.lamina.internal.generate..")
                .whereLayer("api").mayNotAccessAnyLayer()
                .whereLayer("bindings").mayNotAccessAnyLayer()
                .whereLayer("telemetry").mayOnlyAccessLayers("api")
                .whereLayer("runtime").mayOnlyAccessLayers("api", "bindings")
                .whereLayer("checkpoint").mayOnlyAccessLayers("api")
                .whereLayer("text").mayOnlyAccessLayers("api")
                .whereLayer("model").mayOnlyAccessLayers("api", "checkpoint")
                .whereLayer("shard").mayOnlyAccessLayers("api", "checkpoint", "runtime")
                .whereLayer("stream").mayOnlyAccessLayers("api", "checkpoint", "runtime", "telemetry")
                .whereLayer("generate")
                .mayOnlyAccessLayers("api", "checkpoint", "model", "runtime", "stream", "telemetry", "text")
                .check(classes);
    }

    @Test
    void noTwoPackagesNeedEachOther() {
        slices().matching("dev.lamina.(**)").namingSlices("$1").should().beFreeOfCycles().check(classes);
    }
}
