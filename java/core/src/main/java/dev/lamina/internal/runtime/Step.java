package dev.lamina.internal.runtime;

import dev.lamina.bindings.lm_step;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.jspecify.annotations.Nullable;

/**
 * What the ops of a sweep work on: its rows, their memory, and the panel of the moment. Used by one thread at a time.
 */
public final class Step implements AutoCloseable {
    private final Arena arena = Arena.ofShared();
    private final MemorySegment memory;
    private final MemorySegment positions;
    private final MemorySegment sequences;
    private final MemorySegment outputIndex;
    private final MemorySegment branches; // (maxRows, mostBranch); read where a row of the sweep was given places
    private final MemorySegment caches;
    private final MemorySegment states;
    private final MemorySegment list;
    private final MemorySegment listWeights;
    private final int mostBranch;
    private boolean fresh; // nothing was submitted since it was cleared

    /**
     * Makes a step.
     *
     * @param maxRows most rows of a sweep
     * @param maxOutputRows most rows whose logits are wanted
     * @param maxSequences most sequences
     * @param activations device memory
     * @param inputs host memory
     */
    public Step(int maxRows, int maxOutputRows, int maxSequences, MemorySegment activations, MemorySegment inputs) {
        this(maxRows, maxOutputRows, maxSequences, 0, activations, inputs);
    }

    /**
     * Makes a step whose rows can be alternatives.
     *
     * @param maxRows most rows of a sweep
     * @param maxOutputRows most rows whose logits are wanted
     * @param maxSequences most sequences
     * @param mostBranch most positions of a row that lie at other places than those of their numbers
     * @param activations device memory
     * @param inputs host memory
     */
    public Step(int maxRows, int maxOutputRows, int maxSequences, int mostBranch, MemorySegment activations,
            MemorySegment inputs) {
        this(maxRows, maxOutputRows, maxSequences, mostBranch, 0, activations, inputs);
    }

    /**
     * Makes a step whose rows can choose experts too.
     *
     * @param mostChoices most choices of all rows together
     */
    public Step(int maxRows, int maxOutputRows, int maxSequences, int mostBranch, int mostChoices,
            MemorySegment activations, MemorySegment inputs) {
        this.mostBranch = mostBranch;
        memory = lm_step.allocate(arena);
        positions = arena.allocate(ValueLayout.JAVA_INT, maxRows);
        sequences = arena.allocate(ValueLayout.JAVA_INT, maxRows);
        outputIndex = arena.allocate(ValueLayout.JAVA_INT, Math.max(1, maxOutputRows));
        caches = arena.allocate(ValueLayout.ADDRESS, maxSequences);
        states = arena.allocate(ValueLayout.JAVA_INT, maxSequences);
        list = arena.allocate(ValueLayout.JAVA_INT, Math.max(1, mostChoices));
        listWeights = arena.allocate(ValueLayout.JAVA_FLOAT, Math.max(1, mostChoices));
        branches = arena.allocate(ValueLayout.JAVA_INT, Math.max(1, (long) maxRows * mostBranch));
        lm_step.positions(memory, positions);
        lm_step.branch(memory, branches);
        lm_step.sequence(memory, sequences);
        lm_step.output_index(memory, outputIndex);
        lm_step.kv(memory, caches);
        lm_step.states(memory, states);
        lm_step.list(memory, list);
        lm_step.list_weights(memory, listWeights);
        lm_step.activations(memory, activations);
        lm_step.activations_bytes(memory, activations.byteSize());
        lm_step.inputs(memory, inputs);
        lm_step.inputs_bytes(memory, inputs.byteSize());
    }

    /** The struct, for the next submission to a queue, which counts the generations of what it is given. */
    MemorySegment submitted(Queue queue) {
        if (fresh) {
            lm_step.generation(memory, queue.nextGeneration());
            fresh = false;
        }
        return memory;
    }

    /**
     * Begins a sweep without rows, sequences and panel. What it is about is written before it is submitted for the first
     * time, and stays till this is called again: a device may keep a copy.
     */
    public void clear() {
        fresh = true;
        lm_step.rows(memory, 0);
        lm_step.output_rows(memory, 0);
        lm_step.sequences(memory, 0);
        lm_step.branch_width(memory, 0);
        lm_step.list_length(memory, 0);
        lm_step.list_first(memory, 0);
        lm_step.list_rows(memory, 0);
        lm_step.panel(memory, MemorySegment.NULL);
        lm_step.panel_bytes(memory, 0);
    }

    /**
     * Adds a sequence.
     *
     * @param cache null where no op uses it
     * @return its number, for {@link #addRow}
     */
    public int addSequence(@Nullable KvCache cache) {
        return addSequence(cache, -1);
    }

    /**
     * Adds a sequence with states.
     *
     * @param cache null where no op uses it
     * @param state which half of its states, 0 or 1, holds those before its first row; -1: there are none
     * @return its number, for {@link #addRow}
     */
    public int addSequence(@Nullable KvCache cache, int state) {
        int index = lm_step.sequences(memory);
        states.setAtIndex(ValueLayout.JAVA_INT, index, state);
        caches.setAtIndex(ValueLayout.ADDRESS, index, cache == null ? MemorySegment.NULL : cache.handle());
        lm_step.sequences(memory, index + 1);
        return index;
    }

    /**
     * Adds a row, all of whose positions lie at the places of their own numbers.
     *
     * @param sequence number of its sequence
     * @param position in that sequence, from 0
     * @param output whether its logits are wanted
     */
    public void addRow(int sequence, int position, boolean output) {
        addRow(sequence, position, output, new int[0]);
    }

    /**
     * Adds a row that is one of several alternatives: it sees its own branch of the sequence alone, with the same bits
     * as if there were no other.
     *
     * @param sequence number of its sequence
     * @param position in that sequence, from 0
     * @param output whether its logits are wanted
     * @param places where in the KV cache the last positions of its branch lie: its own, the one before ...; all earlier
     *     ones lie at the places of their own numbers
     * @throws IllegalArgumentException there are more places than this step was made for
     */
    public void addRow(int sequence, int position, boolean output, int[] places) {
        if (places.length > mostBranch) {
            throw new IllegalArgumentException(
                    places.length + " places of a row in a step made for " + mostBranch + " at most");
        }
        int row = lm_step.rows(memory);
        positions.setAtIndex(ValueLayout.JAVA_INT, row, position);
        sequences.setAtIndex(ValueLayout.JAVA_INT, row, sequence);
        for (int i = 0; i < mostBranch; i++) {
            int place = i < places.length ? places[i] : position - i; // below 0 the runtime reads none
            branches.setAtIndex(ValueLayout.JAVA_INT, (long) row * mostBranch + i, place);
        }
        if (places.length > 0) {
            lm_step.branch_width(memory, mostBranch);
        }
        lm_step.rows(memory, row + 1);
        if (output) {
            int index = lm_step.output_rows(memory);
            outputIndex.setAtIndex(ValueLayout.JAVA_INT, index, row);
            lm_step.output_rows(memory, index + 1);
        }
    }

    /**
     * Whether the submitting thread computes alone: what comes out has the same bits, and the other processors are left
     * to whoever reads.
     */
    public void alone(boolean alone) {
        lm_step.alone(memory, alone ? 1 : 0);
    }

    /**
     * Begins a list of rows that chose experts, in the place of the one before. Like all but the panel it stays till the
     * next one, or the next sweep.
     */
    public void beginList() {
        fresh = true;
        lm_step.list_length(memory, 0);
        listed(0, 0);
    }

    /** Adds a row to the list, with the weight that it gives its expert. */
    public void list(int row, float weight) {
        int index = lm_step.list_length(memory);
        list.setAtIndex(ValueLayout.JAVA_INT, index, row);
        listWeights.setAtIndex(ValueLayout.JAVA_FLOAT, index, weight);
        lm_step.list_length(memory, index + 1);
    }

    /** Sets which part of the list the ops that are submitted next are about. */
    public void listed(int first, int rows) {
        lm_step.list_first(memory, first);
        lm_step.list_rows(memory, rows);
    }

    /** Rows of this sweep. */
    public int rows() {
        return lm_step.rows(memory);
    }

    /** Rows whose logits are wanted. */
    public int outputRows() {
        return lm_step.output_rows(memory);
    }

    /** Sets the panel that feeds the ops that are submitted next. */
    public void panel(MemorySegment panel) {
        lm_step.panel(memory, panel);
        lm_step.panel_bytes(memory, panel.byteSize());
    }

    @Override
    public void close() {
        arena.close();
    }
}
