package dev.lamina.internal.stream;

/** How the files of a checkpoint are read. */
public enum IoMode {
    /** Direct where the file system allows it, buffered elsewhere. */
    AUTO,
    /** Past the page cache; an error where the file system refuses. */
    DIRECT,
    /** Through the page cache, which may then hold copies of the weights that no budget of ours counts. */
    BUFFERED
}
