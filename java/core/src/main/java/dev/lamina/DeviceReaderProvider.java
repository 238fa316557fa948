package dev.lamina;

/**
 * Opens readers; found by {@link java.util.ServiceLoader}, so that this package depends on no implementation.
 */
public interface DeviceReaderProvider {
    /** Opens a reader for a device. */
    DeviceReader open(DeviceReaderOptions options);
}
