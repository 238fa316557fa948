package dev.lamina.internal.model;

import java.util.List;
import java.util.Set;

/**
 * What a model computes, recorded once and run every sweep. This one record serves four masters: the splitter (which
 * tensors a shard holds, and in which order), the planner (panels), the streamer (read order) and the runtime (ops).
 *
 * @param architecture name of the family, for messages
 * @param stages embedding, layers, head
 * @param values all activations; {@code values.get(i).id() == i}
 * @param kv shape of the KV cache, one entry a layer
 * @param ropes rotary embeddings that the ops use
 * @param embedding tensor of shape (vocabulary, hidden) whose rows are looked up
 * @param tokens rows of the embedding table
 * @param hidden width of the residual stream
 * @param logits the last activation: one row of {@code vocabulary} floats for each output row
 * @param vectors tensors that are loaded once and stay (norms, biases)
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
        Set<String> vectors,
        int contextLimit) {
    /** Number of different tokens that the head knows. */
    public int vocabulary() {
        return logits.width();
    }
}
