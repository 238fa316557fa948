package dev.lamina.internal.generate;

import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.model.Program;
import dev.lamina.internal.runtime.KvLayout;

/**
 * One of the devices that compute a model together, and what it has of it: consecutive stages, and the layers of the KV
 * cache that these use. Of several devices each has about the same bytes of weights.
 *
 * @param processor the device; stays the caller's
 * @param vectors all norms and biases, on that device
 * @param routers what it predicts the next choices of experts with
 * @param kv its layers of KV caches
 * @param firstLayer the first of these, in the whole model
 */
record Rank(Processor processor, Vectors vectors, RouterWeights routers, KvLayout kv, int firstLayer)
        implements AutoCloseable {
    /** Bytes of its memory for vectors and routers. */
    long bytes() {
        return vectors.bytes() + routers.bytes();
    }

    /** Whether the device reads panels in host memory. */
    boolean unified() {
        return processor.device().info().unified();
    }

    /** The number of the rank that computes each stage. */
    static int[] ofStages(Program program, Checkpoint checkpoint, int ranks) {
        var stages = program.stages();
        var bytes = new long[stages.size()];
        long total = 0;
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = Schedule.weightBytes(stages.get(i), checkpoint);
            total += bytes[i];
        }
        var rankOf = new int[bytes.length];
        long before = 0;
        for (int i = 0; i < bytes.length; i++) { // by the middle of each
            double middle = (before + bytes[i] / 2.0) / total;
            rankOf[i] = (int) Math.min(ranks - 1, middle * ranks);
            before += bytes[i];
        }
        return rankOf;
    }

    /** How many of the KV cache's layers belong to stages of ranks below this one. */
    static int firstLayer(Program program, int[] rankOfStage, int rank) {
        int layers = 0;
        for (int i = 0; i < rankOfStage.length && rankOfStage[i] < rank; i++) {
            for (var op : program.stages().get(i).ops()) {
                layers += op.newLayer() >= 0 ? 1 : 0;
            }
        }
        return layers;
    }

    @Override
    public void close() {
        var all = new Closing();
        all.close(routers);
        all.close(vectors);
        all.end();
    }
}
