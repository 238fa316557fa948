package dev.lamina.internal.generate;

import dev.lamina.Perplexity;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/**
 * Sums the log-likelihood of each next token of a text, from blocks of logits: for each row the largest logit, the sum
 * of exponentials below it, and the logit of the token that came.
 */
final class LogLikelihood implements StreamedModel.ScoreSink {
    private int[] window = {};
    private double[] most = {};
    private double[] sum = {};
    private double[] target = {};
    private double total;
    private long tokens;

    /** Begins a window: its tokens, the first of which is not scored. */
    void begin(int[] window) {
        this.window = window;
        this.most = new double[window.length];
        this.sum = new double[window.length];
        this.target = new double[window.length];
        Arrays.fill(most, Double.NEGATIVE_INFINITY);
    }

    @Override
    public void accept(int firstRow, int rows, int firstColumn, int columns, MemorySegment block) {
        for (int i = 0; i < rows && firstRow + i < window.length - 1; i++) {
            int row = firstRow + i;
            int next = window[row + 1];
            for (int column = 0; column < columns; column++) {
                double logit = block.getAtIndex(ValueLayout.JAVA_FLOAT, (long) i * columns + column);
                if (logit > most[row]) {
                    sum[row] = sum[row] * StrictMath.exp(most[row] - logit) + 1;
                    most[row] = logit;
                } else {
                    sum[row] += StrictMath.exp(logit - most[row]);
                }
                if (firstColumn + column == next) {
                    target[row] = logit;
                }
            }
        }
    }

    /** Ends the window. */
    void end() {
        for (int row = 0; row < window.length - 1; row++) {
            total += target[row] - most[row] - StrictMath.log(sum[row]);
            tokens++;
        }
    }

    Perplexity perplexity() {
        return new Perplexity(tokens, tokens == 0 ? Double.NaN : StrictMath.exp(-total / tokens));
    }
}
