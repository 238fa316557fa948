package dev.lamina.internal.model;

import java.util.List;
import java.util.stream.Stream;

/**
 * What a model computes, recorded once and run every sweep. This one record serves four masters: the splitter (which
 * tensors a shard holds, and in which order), the planner (panels), the streamer (read order) and the runtime (ops).
 *
 * @param architecture name of the family, for messages
 * @param stages embedding, layers, head
 * @param values all matrices of activations; {@code values.get(i).id() == i}
 * @param kv shape of the KV cache, one entry a layer
 * @param ropes rotary embeddings that the ops use
 * @param embedding tensor of shape (tokens, hidden) whose rows are looked up
 * @param tokens rows of the embedding table
 * @param hidden columns of it
 * @param logits the last activation: one row of {@code vocabulary} floats for each output row
 * @param vectors what is loaded once and stays
 * @param contextLimit positions that the model was made for
 */
public record Program(
        String architecture,
        List<Stage> stages,
        List<Value> values,
        List<KvShape> kv,
        List<Rope> ropes,
        String embedding,
        int tokens,
        int hidden,
        Value logits,
        List<Vector> vectors,
        int contextLimit) {
    /** The same with other ops. */
    Program with(List<Stage> newStages, List<Value> newValues) {
        return new Program(architecture, List.copyOf(newStages), List.copyOf(newValues), kv, ropes, embedding, tokens,
                hidden, logits, vectors, contextLimit);
    }

    /** Number of different tokens that the head knows. */
    public int vocabulary() {
        return logits.width();
    }

    /** Number of transformer layers. */
    public int layers() {
        return stages.size() - 2; // the others are the embedding and the head
    }

    /** All ops in order, those of all experts and predictions included. */
    public Stream<Op> ops() {
        return stages.stream().flatMap(stage -> stage.ops().stream()).flatMap(Op::flatWithPredictions);
    }

}
