package dev.lamina.internal.stream;

import dev.lamina.DeviceReader;
import dev.lamina.DeviceReaderOptions;
import dev.lamina.DeviceReaderProvider;

/** The provider behind {@link DeviceReader#open(DeviceReaderOptions)}. */
public final class ThreadedDeviceReaderProvider implements DeviceReaderProvider {
    @Override
    public DeviceReader open(DeviceReaderOptions options) {
        return ThreadedDeviceReader.open(options);
    }
}
