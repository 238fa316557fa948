package dev.lamina.cli;

import picocli.CommandLine.IVersionProvider;

/** What {@code --version} prints. */
final class Version implements IVersionProvider {
    @Override
    public String[] getVersion() {
        return new String[] {"lamina " + lamina() + " (Java " + Runtime.version() + ", " + System.getProperty("os.name")
                + " " + System.getProperty("os.arch") + ")"};
    }

    /** The version of the jar; classes outside a jar have none. */
    static String lamina() {
        var version = Version.class.getPackage().getImplementationVersion();
        return version == null ? "development build" : version;
    }
}
