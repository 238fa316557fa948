package dev.lamina;

/**
 * How fast a model can be read and computed here, from which the speed of a {@link MemoryPlan} follows.
 *
 * @param diskBytesPerSecond bytes of weights that are read a second, more than 0
 * @param disk where that number comes from
 * @param busBytesPerSecond bytes that are copied a second from host memory to the device's; 0: the device reads host
 *     memory in place
 * @param bus where that number comes from
 * @param computeBytesPerSecond bytes of weights that are computed a second in a sweep of one row, more than 0
 * @param compute where that number comes from
 */
public record Rates(double diskBytesPerSecond, Origin disk, double busBytesPerSecond, Origin bus,
        double computeBytesPerSecond, Origin compute) {
    private static final double NVME_DRIVE = 3.5e9;
    private static final double TWO_CORES = 20e9;
    private static final double PCIE_3 = 12e9;
    private static final double SMALL_GPU = 200e9;

    /** Where a rate comes from. */
    public enum Origin {
        /** Measured just now. */
        MEASURED,
        /** Measured earlier, on the same drive or processor. */
        REMEMBERED,
        /** A usual one; nothing was measured. */
        ASSUMED,
        /** {@link ModelOptions#ioLimit} allows no more. */
        LIMIT
    }

    /** Checks the values. */
    public Rates {
        if (!(diskBytesPerSecond > 0 && computeBytesPerSecond > 0 && busBytesPerSecond >= 0
                && diskBytesPerSecond + computeBytesPerSecond + busBytesPerSecond < Double.POSITIVE_INFINITY)) {
            throw new LaminaException("Rates must be more than 0 and finite, not " + diskBytesPerSecond + ", "
                    + busBytesPerSecond + " and " + computeBytesPerSecond + " bytes a second.");
        }
    }

    /** Those of a device that reads host memory in place. */
    public Rates(double diskBytesPerSecond, Origin disk, double computeBytesPerSecond, Origin compute) {
        this(diskBytesPerSecond, disk, 0, Origin.ASSUMED, computeBytesPerSecond, compute);
    }

    /** Those of an NVMe drive and a few cores, for when nothing was measured. */
    public static Rates assumed() {
        return new Rates(NVME_DRIVE, Origin.ASSUMED, TWO_CORES, Origin.ASSUMED);
    }

    /** Those of an NVMe drive and a small GPU on a bus of its time, for when nothing was measured. */
    public static Rates assumedOfGpu() {
        return new Rates(NVME_DRIVE, Origin.ASSUMED, PCIE_3, Origin.ASSUMED, SMALL_GPU, Origin.ASSUMED);
    }

    /** These, with a bus that was measured. */
    public Rates withBus(double bytesPerSecond) {
        return new Rates(diskBytesPerSecond, disk, bytesPerSecond, Origin.MEASURED, computeBytesPerSecond, compute);
    }

    /** These, where nothing is copied: panels are read straight into the device's memory. */
    public Rates withoutBus() {
        return new Rates(diskBytesPerSecond, disk, 0, Origin.ASSUMED, computeBytesPerSecond, compute);
    }

    /**
     * These, with reading slowed down to a limit.
     *
     * @param ioLimit most bytes a second that are read; 0: no limit
     */
    public Rates limited(long ioLimit) {
        return ioLimit == 0 || ioLimit >= diskBytesPerSecond ? this
                : new Rates(ioLimit, Origin.LIMIT, busBytesPerSecond, bus, computeBytesPerSecond, compute);
    }
}
