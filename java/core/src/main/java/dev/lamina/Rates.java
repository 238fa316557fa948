package dev.lamina;

/**
 * How fast a model can be read and computed here, from which the speed of a {@link MemoryPlan} follows.
 *
 * @param diskBytesPerSecond bytes of weights that are read a second, more than 0
 * @param disk where that number comes from
 * @param computeBytesPerSecond bytes of weights that are computed a second in a sweep of one row, more than 0
 * @param compute where that number comes from
 */
public record Rates(double diskBytesPerSecond, Origin disk, double computeBytesPerSecond, Origin compute) {
    private static final double NVME_DRIVE = 3.5e9;
    private static final double TWO_CORES = 20e9;

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
        if (!(diskBytesPerSecond > 0 && computeBytesPerSecond > 0
                && diskBytesPerSecond + computeBytesPerSecond < Double.POSITIVE_INFINITY)) {
            throw new LaminaException("Rates must be more than 0 and finite, not " + diskBytesPerSecond + " and "
                    + computeBytesPerSecond + " bytes a second.");
        }
    }

    /** Those of an NVMe drive and a few cores, for when nothing was measured. */
    public static Rates assumed() {
        return new Rates(NVME_DRIVE, Origin.ASSUMED, TWO_CORES, Origin.ASSUMED);
    }

    /**
     * These, with reading slowed down to a limit.
     *
     * @param ioLimit most bytes a second that are read; 0: no limit
     */
    public Rates limited(long ioLimit) {
        return ioLimit == 0 || ioLimit >= diskBytesPerSecond ? this
                : new Rates(ioLimit, Origin.LIMIT, computeBytesPerSecond, compute);
    }
}
