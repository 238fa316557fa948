package dev.lamina.internal.telemetry;

import java.util.List;

/**
 * What the panels of a cycle belong to.
 *
 * @param stages names of the stages, in the order of computing; the first is the one that looks rows up
 * @param stageOf index of the stage of each panel
 * @param files names of the files
 * @param fileOf index of the file of each panel
 * @param lookupFile index of the file that rows are looked up in; of several, the first stands for all
 */
public record PanelMap(List<String> stages, int[] stageOf, List<String> files, int[] fileOf, int lookupFile) {
    /** The stage of a panel, or of lookups and what comes before the first panel. */
    int stage(int panel) {
        return panel == Telemetry.LOOKUP ? 0 : stageOf[panel];
    }

    /** The name of the stage of a panel. */
    String stageName(int panel) {
        return stages.get(stage(panel));
    }

    /** The name of the file of a panel. */
    String file(int panel) {
        return files.get(panel == Telemetry.LOOKUP ? lookupFile : fileOf[panel]);
    }
}
