package dev.lamina.internal.checkpoint;

/**
 * What a zip file stores under a name.
 *
 * @param name name, with all its folders
 * @param offset first byte, counted from the start of the file
 * @param bytes how many there are
 * @param crc32 their CRC-32, as the file has it
 */
public record StoredEntry(String name, long offset, long bytes, int crc32) {}
