package dev.lamina.internal.model;

/**
 * The norms of a family.
 *
 * @param centred layer norm, which subtracts the mean; root mean square norm otherwise
 * @param plusOne whether what is stored of a weight is what it has above 1
 * @param biased whether a bias is added
 * @param epsilon what is added to the mean of the squares
 */
record NormStyle(boolean centred, boolean plusOne, boolean biased, float epsilon) {
    static NormStyle rms(float epsilon) {
        return new NormStyle(false, false, false, epsilon);
    }

    static NormStyle rmsPlusOne(float epsilon) {
        return new NormStyle(false, true, false, epsilon);
    }

    static NormStyle layer(float epsilon, boolean biased) {
        return new NormStyle(true, false, biased, epsilon);
    }
}
