package dev.lamina.internal.stream;

import dev.lamina.internal.runtime.HostMemory;
import dev.lamina.internal.runtime.ReadRing;
import dev.lamina.internal.telemetry.Telemetry;
import dev.lamina.internal.telemetry.Telemetry.Activity;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * Reads the panels of a cycle ahead of the thread that uses them, over and over, and rows of tables in between.
 *
 * <p>Each drive has reader threads of its own. They take requests (pieces of a panel) strictly in schedule order, so
 * that several of them work on the oldest panel of their drive, and go on past the end of the cycle into the next sweep
 * without being asked; the only thing that stops them is the ring: a panel is begun when fewer than prefetch + 1 panels
 * are read, waiting or held. Lookups go first.
 *
 * <p>{@link #next} and {@link #restart} are for one consumer thread; {@link #lookup} may be called by any thread, one
 * call at a time goes on; {@link #close} by any thread. Interrupting any caller is safe: only the
 * reader threads touch the files, and nobody interrupts those.
 */
public final class Streamer implements AutoCloseable {
    private static final System.Logger LOG = System.getLogger(Streamer.class.getName());

    private static final long COALESCED_GAP = 64 << 10; // reading over it costs less than another request

    /** Requests for what is only predicted, for each drive: what is asked for meanwhile waits for these at most. */
    private static final int MOST_PREDICTED = 2;

    private final List<DataFile> files;
    private final List<Extent> cycle;
    private final ResidentPanels residents;
    private final @Nullable ExpertCache experts;
    private final int limit; // panels read, waiting or held
    private final int requestBytes;
    private final int drives;
    private final Telemetry telemetry;
    private final @Nullable RateLimiter limiter; // guarded by lock
    private final List<HostBlock> blocks = new ArrayList<>();
    private final List<Thread> threads = new ArrayList<>();
    private final long ownBytes;

    private final ReentrantLock lookupLock = new ReentrantLock(); // taken before the other one
    private final @Nullable RowCache rowCache; // guarded by lookupLock

    private final ReentrantLock lock = new ReentrantLock();
    private final Condition work = lock.newCondition(); // for readers of panels: there may be something to read
    private final Condition lookups = lock.newCondition(); // for the other readers: there are rows to read
    private final Condition ready = lock.newCondition(); // for the consumer: the next panel may be there
    private final Condition idle = lock.newCondition(); // for restart and lookups: a request has ended
    private final Condition paced = lock.newCondition(); // for readers that wait for their turn under a limit

    // All of the rest is guarded by lock.
    private final ArrayDeque<MemorySegment> freeSlots = new ArrayDeque<>(); // a stack: the last used is in cache
    private final ArrayDeque<Panel> planned = new ArrayDeque<>(); // begun and not consumed, in schedule order
    private final List<ArrayDeque<Panel>> unclaimed = new ArrayList<>(); // by drive: planned, and not wholly asked for
    private final ArrayDeque<Integer> expertOrder = new ArrayDeque<>(); // panels of experts to hand out, in order
    private final ArrayDeque<Integer> expertsToRead = new ArrayDeque<>(); // of these, what no reader has begun
    private final Map<Integer, Panel> expertsRead = new HashMap<>(); // begun and not handed out, by number
    private final List<ArrayDeque<Panel>> unclaimedExperts = new ArrayList<>(); // by drive, as unclaimed
    private final ArrayDeque<Panel> tails = new ArrayDeque<>(); // of which only the tail is to be read
    private final ArrayDeque<Integer> predictions = new ArrayDeque<>(); // panels of experts that no reader has begun
    private final Map<Integer, Panel> readAhead = new HashMap<>(); // of those predicted, what was begun, by number
    private final List<ArrayDeque<Panel>> unclaimedAhead = new ArrayList<>(); // by drive, as unclaimed
    private final ArrayDeque<Panel> tailsAhead = new ArrayDeque<>(); // as tails
    private final List<Request> requestsAhead = new ArrayList<>(); // for these, under way
    private @Nullable Demand demand;
    private long planPosition; // next position of the endless schedule to look at for reading
    private long position; // next position to consume
    private int outstanding; // panels read, waiting or held, of at most limit
    private int held;
    private int panelReads; // requests under way
    private boolean restarting;
    private boolean forgotten; // a panel to be kept elsewhere was not, and reading is past it
    private boolean closed;
    private boolean detached; // closed, and all memory freed
    private @Nullable Throwable failure;
    private long weightBytes;
    private long expertBytes; // of these
    private long predictedBytes; // of these
    private long mispredictedBytes;
    private long expertsUsed;
    private long expertsReadCount;
    private long paddingBytes;
    private long rowBytes;
    private long discardedBytes;
    private long readBytes;
    private long verifiedBytes;
    private long waitNanos;

    /**
     * Allocates the ring and begins to read.
     *
     * @param files open files, which stay the caller's and must stay open until this is closed
     * @param cycle the panels in schedule order
     * @param residents memory for good for some of them, over the same files and cycle; stays the caller's. The ring is
     *     in the same kind of memory
     * @param options with a prefetch that {@link Planner#plan} or the caller chose
     * @param memory where to allocate what else readers need
     * @param telemetry hears of reads and waits
     */
    public Streamer(List<DataFile> files, List<Extent> cycle, ResidentPanels residents, StreamOptions options,
            HostMemory memory, Telemetry telemetry) {
        this(files, cycle, residents, null, options, memory, telemetry);
    }

    /** The same with panels of experts beside the cycle, which are read when they are asked for. */
    public Streamer(List<DataFile> files, List<Extent> cycle, ResidentPanels residents, @Nullable ExpertCache experts,
            StreamOptions options, HostMemory memory, Telemetry telemetry) {
        if (options.prefetch() == StreamOptions.AUTO_PREFETCH || cycle.isEmpty()) {
            throw new IllegalArgumentException("a streamer needs panels and a prefetch");
        }
        for (Extent extent : cycle) {
            if (extent.end() > files.get(extent.file()).size()) {
                throw new IllegalArgumentException(extent + " lies outside of " + files.get(extent.file()).path());
            }
        }
        this.files = List.copyOf(files);
        this.cycle = List.copyOf(cycle);
        this.residents = residents;
        this.experts = experts;
        this.limit = options.prefetch() + 1;
        this.requestBytes = options.requestBytes();
        this.drives = drives(files);
        this.telemetry = telemetry;
        this.limiter = options.bytesPerSecond() > 0 ? new RateLimiter(options.bytesPerSecond()) : null;
        for (int i = 0; i < drives; i++) {
            unclaimed.add(new ArrayDeque<>());
            unclaimedExperts.add(new ArrayDeque<>());
            unclaimedAhead.add(new ArrayDeque<>());
        }
        if (experts != null) {
            experts.attach(this.files);
        }
        try {
            residents.attach(this.files, this.cycle);
        } catch (Throwable e) {
            if (experts != null) {
                experts.detach();
            }
            throw e;
        }
        try {
            int alignment = alignment(files);
            long bytes = 0;
            if (!residents.holdsAll()) {
                // one block: large pages then hold small slots too
                long slot = HostBlock.footprint(HostBlock.roundUp(slotBytes(files, cycle), alignment), 1);
                MemorySegment ring = allocate(residents.memory(), Math.multiplyExact(limit, slot), alignment);
                for (int i = limit - 1; i >= 0; i--) {
                    freeSlots.push(ring.asSlice(i * slot, slot));
                }
                bytes += HostBlock.footprint(Math.multiplyExact(limit, slot), alignment);
            }
            if (options.rowCacheBytes() > 0) {
                rowCache = new RowCache(allocate(memory, options.rowCacheBytes(), 1));
                bytes += HostBlock.footprint(options.rowCacheBytes(), 1);
            } else {
                rowCache = null;
            }
            var scratches = new ArrayList<MemorySegment>();
            for (int i = 0; i < options.readers() * drives; i++) {
                scratches.add(allocate(memory, scratchBytes(files), alignment));
            }
            bytes += options.readers() * scratchFootprint(files);
            ownBytes = bytes;
            for (int i = 0; i < scratches.size(); i++) {
                threads.add(Thread.ofPlatform().daemon().name("lamina-reader-" + i)
                        .start(new Reader(i, i % drives, options.depth(), scratches.get(i))));
            }
        } catch (Throwable e) {
            close();
            throw e;
        }
    }

    private MemorySegment allocate(HostMemory memory, long bytes, int alignment) {
        HostBlock block = HostBlock.allocate(memory, bytes, alignment);
        blocks.add(block);
        return block.memory();
    }

    /** Memory that one slot of the ring takes. */
    static long slotFootprint(List<DataFile> files, List<Extent> cycle) {
        return HostBlock.footprint(slotBytes(files, cycle), alignment(files));
    }

    /** Memory that the scratch of one reader of each drive takes. */
    static long scratchFootprint(List<DataFile> files) {
        return drives(files) * HostBlock.footprint(scratchBytes(files), alignment(files));
    }

    private static int drives(List<DataFile> files) {
        return files.stream().mapToInt(DataFile::drive).max().orElseThrow() + 1;
    }

    private static long slotBytes(List<DataFile> files, List<Extent> cycle) {
        return cycle.stream().mapToLong(extent -> {
            int alignment = files.get(extent.file()).alignment();
            return extent.windowEnd(alignment) - extent.windowStart(alignment);
        }).max().orElseThrow();
    }

    private static long scratchBytes(List<DataFile> files) {
        long largest = files.stream().mapToLong(DataFile::size).max().orElseThrow();
        return Math.min(DataFile.UNIT, HostBlock.roundUp(largest, alignment(files)));
    }

    private static int alignment(List<DataFile> files) {
        return files.stream().mapToInt(DataFile::alignment).max().orElseThrow();
    }

    /** All memory, wherever it is: the ring, what the readers need, the row cache, resident panels and experts. */
    public long hostBytes() {
        return ownBytes + residents.bytes() + (experts == null ? 0 : experts.bytes());
    }

    /** Panels that can be read, waiting or held at once. */
    public int slots() {
        return limit;
    }

    /** What was done so far. */
    public StreamCounters counters() {
        lock.lock();
        try {
            return new StreamCounters(weightBytes, expertBytes, predictedBytes, mispredictedBytes, paddingBytes,
                    rowBytes, discardedBytes, readBytes, verifiedBytes, waitNanos, expertsUsed, expertsReadCount);
        } finally {
            lock.unlock();
        }
    }

    // ---- the consumer

    /**
     * Waits for the next panel in schedule order. Several panels may be held at once, up to prefetch + 1. One that is
     * kept elsewhere comes without memory.
     *
     * @return the panel, to be released after use
     * @throws IOException a read failed, here or ahead, or a file was changed; everything that follows fails with the
     *     same exception
     * @throws InterruptedException the caller was interrupted; the panel is then still the next one
     * @throws IllegalStateException the streamer is closed, or the caller holds so many panels that none can be read
     */
    public Panel next() throws IOException, InterruptedException {
        Panel panel = takeNext();
        if (panel.index() == cycle.size() - 1) {
            checkUnchanged();
        }
        return panel;
    }

    /**
     * Looks at all files of which something was read since they were last looked at: {@link #next} does so at the end
     * of a cycle, and whoever uses results before that has to, because the bytes of a file that was changed could be
     * anything. It may wait for the file system.
     *
     * @throws IOException a file was changed; everything that follows fails with the same exception
     */
    public void checkUnchanged() throws IOException {
        try {
            for (DataFile file : files) {
                file.checkUnchanged();
            }
        } catch (Throwable e) {
            lock.lock();
            try {
                failure = failure == null ? e : failure;
                signalAll();
                checkRunning();
            } finally {
                lock.unlock();
            }
        }
    }

    private Panel takeNext() throws IOException, InterruptedException {
        lock.lockInterruptibly();
        try {
            int index = (int) (position % cycle.size());
            while (true) {
                checkRunning();
                Panel first = planned.peek();
                if (first != null && first.position == position) {
                    if (first.isComplete()) {
                        planned.remove();
                        held++;
                        first.diskBytes = first.resident ? residents.reportBytes(index) : first.wantedBytes;
                        weightBytes += first.diskBytes;
                        position++;
                        return first;
                    }
                } else if (residents.isFilled(index)) {
                    Panel panel = residentPanel(index);
                    panel.diskBytes = residents.reportBytes(index);
                    weightBytes += panel.diskBytes;
                    position++;
                    return panel;
                } else if (held == limit) {
                    throw new IllegalStateException("all " + limit + " panels of the ring are held");
                }
                long start = beginWait();
                try {
                    ready.await();
                } finally {
                    endWait(index, start);
                }
            }
        } finally {
            lock.unlock();
        }
    }

    private Panel residentPanel(int index) {
        Panel panel = newPanel(index, -1, true);
        panel.claimed = panel.windowEnd;
        return panel;
    }

    private Panel newPanel(int index, long position, boolean resident) {
        Extent extent = cycle.get(index);
        MemorySegment window = resident ? residents.window(index) : freeSlots.pop();
        if (window == null && !residents.isElsewhere(index)) {
            throw new IllegalStateException("panel " + index + " has no memory");
        }
        return new Panel(this, index, position, extent, files.get(extent.file()), window, resident);
    }

    /** A panel that was read has been copied to where it is kept. */
    void keptElsewhere(Panel panel) {
        lock.lock();
        try {
            if (panel.released || !residents.isElsewhere(panel.index()) || residents.isFilled(panel.index())) {
                throw new IllegalStateException("panel " + panel.index() + " cannot be kept elsewhere now");
            }
            residents.endFill(panel.index(), 0); // its bytes were counted when it was handed out
        } finally {
            lock.unlock();
        }
    }

    void checkHeld(Panel panel) {
        lock.lock();
        try {
            if (panel.released || closed) {
                throw new IllegalStateException(closed ? "the streamer is closed"
                        : "panel " + panel.index() + " was released");
            }
        } finally {
            lock.unlock();
        }
    }

    void release(Panel panel) {
        lock.lock();
        try {
            if (panel.released) {
                throw new IllegalStateException("panel " + panel.index() + " was released before");
            }
            panel.released = true;
            if (panel.slot != null && experts != null) {
                experts.release(panel.slot);
                work.signalAll();
            } else if (panel.position >= 0) { // it was read, and not found in memory
                held--;
                if (residents.isElsewhere(panel.index()) && !residents.isFilled(panel.index())) {
                    residents.dropFill(panel.index());
                    forgotten = true;
                }
                giveBack(panel);
                wakeReader();
            }
        } finally {
            lock.unlock();
        }
    }

    /** Wakes a reader that can do what there is to do now: readers of another drive cannot. */
    private void wakeReader() {
        if (drives == 1) {
            work.signal();
        } else {
            work.signalAll();
        }
    }

    private void giveBack(Panel panel) {
        outstanding--;
        if (!panel.resident) {
            freeSlots.push(panel.window());
        }
    }

    /**
     * Drops what was read ahead, so that the next panel is the first of the cycle again; does nothing when it is
     * already and all is well. Held panels stay valid. Waits for reads under way, not for the disk to read anything more.
     */
    public void restart() {
        lock.lock();
        try {
            if (position % cycle.size() == 0 && !forgotten && expertOrder.isEmpty() && readAhead.isEmpty()
                    && predictions.isEmpty()) {
                return;
            }
            restarting = true;
            unclaimed.forEach(ArrayDeque::clear);
            unclaimedExperts.forEach(ArrayDeque::clear);
            unclaimedAhead.forEach(ArrayDeque::clear);
            expertsToRead.clear();
            predictions.clear();
            tails.clear();
            tailsAhead.clear();
            paced.signalAll();
            while (panelReads > 0) {
                idle.awaitUninterruptibly();
            }
            discardPlanned();
            position = 0;
            planPosition = 0;
            forgotten = false;
            restarting = false;
            work.signalAll();
        } finally {
            lock.unlock();
        }
    }

    /** Forgets the panels that were begun and not consumed; resident ones that are complete stay. */
    private void discardPlanned() {
        for (Panel panel : planned) {
            if (!panel.resident) {
                discardedBytes += panel.wantedBytes;
                if (residents.isElsewhere(panel.index())) {
                    residents.dropFill(panel.index());
                }
            } else if (!residents.isFilled(panel.index())) {
                discardedBytes += panel.wantedBytes;
                residents.dropFill(panel.index());
            }
            giveBack(panel);
        }
        planned.clear();
        discardExperts();
    }

    /** Forgets the panels of experts that were asked for and not handed out. */
    private void discardExperts() {
        if (experts == null) {
            return;
        }
        for (int panel : expertOrder) {
            var slot = experts.find(panel);
            if (slot != null && !expertsRead.containsKey(panel)) {
                experts.release(slot);
            }
        }
        for (Panel panel : expertsRead.values()) {
            discardedBytes += panel.wantedBytes;
            experts.release(panel.slot);
        }
        for (Panel panel : readAhead.values()) {
            discardedBytes += panel.wantedBytes;
            experts.dropAhead(panel.slot);
        }
        expertOrder.clear();
        expertsRead.clear();
        readAhead.clear();
    }

    /**
     * Says which panels of experts may be asked for next. Readers that have nothing else to do may read them, a few
     * at a time, until the next {@link #demand}, which knows.
     *
     * @param panels their numbers, each once, the most likely first
     */
    public void predict(int[] panels) {
        var cache = experts();
        lock.lock();
        try {
            predictions.clear();
            for (int panel : panels) {
                if (cache.find(panel) == null && !readAhead.containsKey(panel)) {
                    predictions.add(panel);
                }
            }
            work.signalAll();
        } finally {
            lock.unlock();
        }
    }

    /** What was read ahead and is not asked for is forgotten; what is still on its way is, when it has arrived. */
    private void forgetReadAhead(ExpertCache cache) {
        predictions.clear();
        tailsAhead.clear();
        unclaimedAhead.forEach(ArrayDeque::clear);
        for (Panel panel : readAhead.values()) {
            panel.dropped = true;
            panel.unwanted = true;
            if (panel.reading == 0) {
                endReadAhead(cache, panel);
            }
        }
        readAhead.clear();
        giveBackTurns();
    }

    /** What is asked for now must not wait for the turns of requests that nobody wants any more. */
    private void giveBackTurns() {
        for (Request request : requestsAhead) {
            if (limiter != null && Objects.requireNonNull(request.panel).unwanted
                    && request.turnNanos - System.nanoTime() > 0) {
                limiter.giveBack(request.bytes);
            }
        }
        paced.signalAll();
    }

    private void endReadAhead(ExpertCache cache, Panel unwanted) {
        mispredictedBytes += unwanted.wantedBytes;
        cache.dropAhead(Objects.requireNonNull(unwanted.slot));
        work.signalAll();
    }

    /**
     * Asks for panels of experts, to be handed out by {@link #nextExpert} in this order. All that were asked for before
     * have been handed out.
     *
     * @param panels their numbers, each once, those of an expert one after the other
     */
    public void demand(int[] panels) {
        var cache = experts();
        lock.lock();
        try {
            if (!expertOrder.isEmpty()) {
                throw new IllegalStateException(expertOrder.size() + " panels of experts were not taken");
            }
            var adopted = new ArrayList<Panel>();
            int expert = -1;
            boolean reads = false;
            for (int panel : panels) {
                if (cache.expert(panel) != expert) {
                    expert = cache.expert(panel);
                    cache.used(expert);
                    expertsUsed++;
                    reads = false;
                }
                expertOrder.add(panel);
                var slot = cache.find(panel);
                if (slot == null && !reads) {
                    expertsReadCount++;
                    reads = true;
                }
                if (slot != null) {
                    slot.pins++;
                } else if (readAhead.containsKey(panel)) {
                    adopted.add(readAhead.remove(panel));
                } else {
                    expertsToRead.add(panel);
                }
            }
            for (Panel panel : adopted) {
                cache.adopt(Objects.requireNonNull(panel.slot));
                expertsRead.put(panel.index() - cycle.size(), panel);
                if (tailsAhead.remove(panel)) {
                    tails.add(panel);
                }
                if (!panel.isClaimed()) {
                    unclaimedExperts.get(panel.file.drive()).add(panel);
                }
            }
            forgetReadAhead(cache);
            work.signalAll();
        } finally {
            lock.unlock();
        }
    }

    /** Notes the end of a sweep, for how often experts are used. */
    public void swept() {
        if (experts != null) {
            lock.lock();
            try {
                experts.swept();
            } finally {
                lock.unlock();
            }
        }
    }

    private ExpertCache experts() {
        if (experts == null) {
            throw new IllegalStateException("there are no experts");
        }
        return experts;
    }

    /**
     * Waits for the next panel that was asked for by {@link #demand}.
     *
     * @throws IOException a reader failed
     * @throws InterruptedException the caller was interrupted
     */
    public Panel nextExpert() throws IOException, InterruptedException {
        var cache = experts();
        lock.lockInterruptibly();
        try {
            while (true) {
                checkRunning();
                Integer wanted = expertOrder.peek();
                if (wanted == null) {
                    throw new IllegalStateException("no panel of an expert was asked for");
                }
                int index = cycle.size() + wanted;
                Panel first = expertsRead.get(wanted);
                if (first != null) {
                    if (first.isComplete()) {
                        expertOrder.remove();
                        expertsRead.remove(wanted);
                        first.diskBytes = first.wantedBytes;
                        weightBytes += first.diskBytes;
                        expertBytes += first.diskBytes;
                        predictedBytes += first.predicted ? first.diskBytes : 0;
                        return first;
                    }
                } else if (!wanted.equals(expertsToRead.peek())) { // nobody has to read it
                    expertOrder.remove();
                    var slot = Objects.requireNonNull(cache.find(wanted));
                    return new Panel(this, index, cache.extents(wanted), files, cache.window(slot), slot);
                }
                long start = beginWait();
                try {
                    ready.await();
                } finally {
                    endWait(index, start);
                }
            }
        } finally {
            lock.unlock();
        }
    }

    /** Begins to wait; returns the time. */
    private long beginWait() {
        telemetry.begin(Activity.WAIT, Telemetry.SWEEP_LANE);
        return System.nanoTime();
    }

    private void endWait(int panel, long start) {
        long end = System.nanoTime();
        waitNanos += end - start;
        telemetry.waited(panel, start, end);
    }

    private void checkRunning() throws IOException {
        if (closed) {
            throw new IllegalStateException("the streamer is closed");
        }
        switch (failure) {
            case null -> { }
            case IOException e -> throw e;
            case RuntimeException e -> throw e;
            case Error e -> throw e;
            default -> throw new IllegalStateException(failure);
        }
    }

    // ---- lookups

    /**
     * Reads rows of a table, ahead of all panels that are not yet under way. Rows that a resident panel holds or that
     * were used lately come from memory.
     *
     * @param table the table
     * @param rowIds the rows, in any order, repeated as one likes
     * @param destination (rowIds.length, rowBytes); memory that all threads may write
     * @throws IOException a read failed
     * @throws InterruptedException the caller was interrupted; nothing writes to the destination any more
     */
    public void lookup(RowTable table, int[] rowIds, MemorySegment destination)
            throws IOException, InterruptedException {
        for (RowTable.Part part : table.parts()) {
            DataFile file = files.get(part.file());
            if (part.rows() > (file.size() - part.offset()) / table.rowBytes()) {
                throw new IllegalArgumentException(part + " lies outside of " + file.path());
            }
        }
        for (int row : rowIds) {
            if (row < 0 || row >= table.rows()) {
                throw new IllegalArgumentException("row " + row + " of a table of " + table.rows() + " rows");
            }
        }
        long rowBytes = table.rowBytes();
        lookupLock.lockInterruptibly();
        try {
            if (rowCache != null) {
                rowCache.use(table);
            }
            var firstPlace = new HashMap<Integer, Integer>(); // row id -> the first place where it is wanted
            for (int i = 0; i < rowIds.length; i++) {
                firstPlace.putIfAbsent(rowIds[i], i);
            }
            int[] distinct = firstPlace.keySet().stream().mapToInt(row -> row).sorted().toArray();
            var pieces = new Pieces(destination, threads.getFirst());
            var read = new ArrayList<Integer>();
            for (int row : distinct) {
                MemorySegment place = destination.asSlice(firstPlace.get(row) * rowBytes, rowBytes);
                RowTable.Part part = table.part(row);
                long offset = part.offset() + (row - part.firstRow()) * rowBytes;
                MemorySegment known = inMemory(part.file(), offset, row, rowBytes);
                if (known != null) {
                    place.copyFrom(known);
                } else {
                    pieces.add(files.get(part.file()), offset, rowBytes, firstPlace.get(row) * rowBytes);
                    read.add(row);
                }
            }
            serve(pieces);
            for (int i = 0; i < rowIds.length; i++) {
                long first = firstPlace.get(rowIds[i]) * rowBytes;
                if (first != i * rowBytes) {
                    MemorySegment.copy(destination, first, destination, i * rowBytes, rowBytes);
                }
            }
            if (rowCache != null) {
                for (int row : read) {
                    rowCache.put(row, destination.asSlice(firstPlace.get(row) * rowBytes, rowBytes));
                }
            }
        } finally {
            lookupLock.unlock();
        }
    }

    private @Nullable MemorySegment inMemory(int file, long offset, int row, long rowBytes) {
        lock.lock();
        try {
            if (closed) {
                throw new IllegalStateException("the streamer is closed");
            }
            MemorySegment resident = residents.find(file, offset, rowBytes);
            return resident != null || rowCache == null ? resident : rowCache.get(row);
        } finally {
            lock.unlock();
        }
    }

    /** Has the readers read these pieces, and waits until nothing writes to their destination any more. */
    private void serve(Pieces pieces) throws IOException, InterruptedException {
        var served = new Demand(pieces);
        lock.lock();
        try {
            checkRunning();
            demand = served;
            wakeReader();
            lookups.signalAll();
            long start = beginWait();
            try {
                while (!served.isComplete()) {
                    checkRunning();
                    idle.await();
                }
                checkRunning(); // a request that fails ends too
            } finally {
                demand = null;
                while (served.reading > 0) {
                    idle.awaitUninterruptibly();
                }
                endWait(Telemetry.LOOKUP, start);
            }
        } finally {
            lock.unlock();
        }
    }

    /**
     * Bytes of a file wanted by a lookup, not across the border of a unit.
     *
     * @param source first byte in the file
     * @param length bytes
     * @param target where in the destination they go
     */
    private record Piece(DataFile file, long source, long length, long target) {
        long end() {
            return source + length;
        }
    }

    /** What a lookup wants, each file's pieces in ascending order. */
    private static final class Pieces {
        final MemorySegment destination;
        final List<Piece> list = new ArrayList<>();

        Pieces(MemorySegment destination, Thread reader) {
            if (destination.isReadOnly() || !destination.isAccessibleBy(reader)) {
                throw new IllegalArgumentException("the readers cannot write to " + destination);
            }
            this.destination = destination;
        }

        void add(DataFile file, long source, long length, long target) {
            for (long done = 0; done < length;) {
                long inUnit = Math.min(length - done, DataFile.UNIT - (source + done) % DataFile.UNIT);
                list.add(new Piece(file, source + done, inUnit, target + done));
                done += inUnit;
            }
        }

        /** The piece after those that are read together with this one. */
        int groupEnd(int first) {
            Piece begin = list.get(first);
            long unit = begin.source / DataFile.UNIT;
            boolean wholeUnit = !begin.file.isVerified(unit);
            int next = first + 1;
            while (next < list.size() && list.get(next).file == begin.file
                    && list.get(next).source / DataFile.UNIT == unit
                    && (wholeUnit || list.get(next).source - list.get(next - 1).end() <= COALESCED_GAP)) {
                next++;
            }
            return next;
        }
    }

    /** A lookup being served: groups of pieces, each read by one request. */
    private static final class Demand {
        final Pieces pieces;
        int claimed; // pieces
        int reading; // requests under way

        Demand(Pieces pieces) {
            this.pieces = pieces;
        }

        boolean isClaimed() {
            return claimed == pieces.list.size();
        }

        boolean isComplete() {
            return isClaimed() && reading == 0;
        }
    }

    // ---- the readers

    /**
     * Bytes that a reader is asked for: file bytes [from, to) of a panel, or pieces [from, to) of a lookup. One of the
     * two is null.
     */
    private static final class Request {
        final @Nullable Panel panel;
        final @Nullable Demand rows;
        final long from;
        final long to;
        final long bytes;
        final boolean isTail; // of the panel
        final DataFile.Tally tally = new DataFile.Tally();
        long startNanos;
        long turnNanos; // when it may be read, under a limit

        Request(@Nullable Panel panel, @Nullable Demand rows, long from, long to, long bytes) {
            this(panel, rows, from, to, bytes, false);
        }

        Request(@Nullable Panel panel, @Nullable Demand rows, long from, long to, long bytes, boolean isTail) {
            this.isTail = isTail;
            this.panel = panel;
            this.rows = rows;
            this.from = from;
            this.to = to;
            this.bytes = bytes;
        }
    }

    /** One reader thread, and the requests it is at. */
    private final class Reader implements Runnable {
        private final int number;
        private final int drive;
        private final MemorySegment scratch;
        private final boolean readsPanels;
        private final @Nullable Request[] underWay; // by the tag of the ring
        private int count; // of those under way
        private @Nullable Request waiting; // for its turn under a limit

        Reader(int number, int drive, int depth, MemorySegment scratch) {
            this.number = number;
            this.drive = drive;
            this.scratch = scratch;
            this.underWay = new Request[depth];
            // one ring keeps a drive busy; the other readers look up rows at the same time
            this.readsPanels = number < drives || !usesRing();
        }

        private boolean usesRing() {
            return files.stream().anyMatch(file -> file.drive() == drive && file.mode() == IoMode.URING);
        }

        @Override
        public void run() {
            try (ReadRing ring = openRing()) { // closed before what follows: until then the kernel writes to our memory
                while (true) {
                    Request request = waiting != null || count == underWay.length ? waiting : claim(count == 0);
                    waiting = request;
                    if (request != null && (count == 0 || isItsTurn(request))) {
                        int place = freePlace();
                        underWay[place] = request;
                        waiting = null;
                        count++;
                        telemetry.begin(Activity.READ, lane(place));
                        request.startNanos = System.nanoTime();
                        if (awaitTurn(request)) {
                            start(request, place, ring);
                        } else {
                            drop(place);
                        }
                    } else if (count == 0) {
                        return;
                    } else { // without a ring nothing stays under way
                        reap(Objects.requireNonNull(ring));
                    }
                }
            } catch (Throwable e) { // whatever it is, the consumer must not wait for ever
                fail(e);
            }
        }

        /** Null where this reader has one read under way at a time. */
        private @Nullable ReadRing openRing() {
            try {
                return readsPanels && usesRing() ? ReadRing.open(underWay.length) : null;
            } catch (IOException e) { // too many in this process, say: the same files can be read without
                LOG.log(System.Logger.Level.DEBUG, "{0}: one read at a time instead", e.getMessage());
                return null;
            }
        }

        private void reap(ReadRing ring) throws IOException {
            try {
                ring.await(this::complete);
            } catch (ReadRing.Failure e) {
                for (Request request : underWay) {
                    if (request != null && request.panel != null) {
                        throw new IOException(request.panel.file.path() + ": reading at offset " + request.from
                                + " failed: " + e.getMessage(), e);
                    }
                }
                throw e;
            }
        }

        /** Where reads follow one another: a thread, or one of the places of its ring. */
        private int lane(int place) {
            return number * underWay.length + place;
        }

        private int freePlace() {
            for (int i = 0; i < underWay.length; i++) {
                if (underWay[i] == null) {
                    return i;
                }
            }
            throw new IllegalStateException("all " + underWay.length + " places are taken");
        }

        /** A request, or null when there is none, and no reason to wait for one; then this thread may end. */
        private @Nullable Request claim(boolean wait) {
            lock.lock();
            try {
                while (failure == null && !closed) {
                    Request request = claimRows();
                    if (request == null && readsPanels) {
                        request = claimExpert();
                    }
                    if (request == null && readsPanels) {
                        request = claimPanel();
                    }
                    if (request == null && readsPanels) {
                        request = claimAhead();
                    }
                    if (request != null) {
                        if (limiter != null) {
                            request.turnNanos = limiter.reserve(request.bytes, System.nanoTime());
                        }
                        wakeReader(); // there may be one more for the next reader
                        return request;
                    }
                    if (!wait) {
                        return null;
                    }
                    (readsPanels ? work : lookups).awaitUninterruptibly();
                }
                return null;
            } finally {
                lock.unlock();
            }
        }

        private boolean isItsTurn(Request request) {
            return limiter == null || request.turnNanos - System.nanoTime() <= 0;
        }

        /** Waits for the turn of a request under a limit; false when nobody wants it any more. */
        private boolean awaitTurn(Request request) {
            if (limiter == null) {
                return true;
            }
            lock.lock();
            try {
                while (!isItsTurn(request) && isWanted(request)) {
                    try {
                        paced.awaitNanos(request.turnNanos - System.nanoTime());
                    } catch (InterruptedException e) { // nobody may interrupt readers
                        LOG.log(System.Logger.Level.DEBUG, "a reader was interrupted", e);
                    }
                }
                return isWanted(request);
            } finally {
                lock.unlock();
            }
        }

        private boolean isWanted(Request request) {
            return failure == null && !closed
                    && (request.panel == null || !restarting && !request.panel.unwanted);
        }

        private void drop(int place) {
            lock.lock();
            try {
                Request request = Objects.requireNonNull(underWay[place]);
                if (request.panel != null) {
                    request.panel.dropped = true;
                }
                endRequest(place, 0);
            } finally {
                lock.unlock();
            }
        }

        private @Nullable Request claimRows() {
            if (demand == null || demand.isClaimed()) {
                return null;
            }
            int first = demand.claimed;
            int next = demand.pieces.groupEnd(first);
            long bytes = demand.pieces.list.get(next - 1).end() - demand.pieces.list.get(first).source;
            var request = new Request(null, demand, first, next, bytes);
            demand.claimed = next;
            demand.reading++;
            return request;
        }

        private @Nullable Request claimExpert() {
            if (restarting) {
                return null;
            }
            if (!tails.isEmpty()) {
                return claimTail(tails);
            }
            ArrayDeque<Panel> mine = unclaimedExperts.get(drive);
            while (mine.isEmpty()) {
                Panel begun = beginExpert();
                if (begun == null) {
                    return null;
                }
                unclaimedExperts.get(begun.file.drive()).add(begun);
                if (begun.file.drive() != drive) {
                    work.signalAll();
                }
            }
            return claim(mine);
        }

        /** The next piece of the oldest of these tails; any reader takes it, and reads it into its scratch. */
        private Request claimTail(ArrayDeque<Panel> due) {
            Panel panel = due.element();
            long from = panel.tailClaimed;
            long to = Math.min(panel.tail.end(), (from / DataFile.UNIT + 1) * DataFile.UNIT);
            panel.tailClaimed = to;
            if (to == panel.tail.end()) {
                due.remove();
            }
            panel.reading++;
            panelReads++;
            return new Request(panel, null, from, to, to - from, true);
        }

        private @Nullable Request claimPanel() {
            ArrayDeque<Panel> mine = unclaimed.get(drive);
            while (mine.isEmpty() && !restarting) {
                Panel begun = begin();
                if (begun == null) {
                    return null;
                }
                unclaimed.get(begun.file.drive()).add(begun);
                if (begun.file.drive() != drive) {
                    work.signalAll(); // its readers may sleep, and this one may find nothing for itself
                }
            }
            return claim(mine);
        }

        /** The next piece of what may be asked for. */
        private @Nullable Request claimAhead() {
            if (restarting || experts == null || requestsAhead.size() >= MOST_PREDICTED * drives) {
                return null;
            }
            if (!tailsAhead.isEmpty()) {
                Request request = claimTail(tailsAhead);
                requestsAhead.add(request);
                return request;
            }
            ArrayDeque<Panel> mine = unclaimedAhead.get(drive);
            while (mine.isEmpty()) {
                Panel begun = beginAhead(experts);
                if (begun == null) {
                    return null;
                }
                unclaimedAhead.get(begun.file.drive()).add(begun);
                if (begun.file.drive() != drive) {
                    work.signalAll();
                }
            }
            Request request = Objects.requireNonNull(claim(mine));
            requestsAhead.add(request);
            return request;
        }

        /** The next piece of the oldest of these panels. */
        private @Nullable Request claim(ArrayDeque<Panel> mine) {
            Panel panel = mine.peek();
            if (panel == null) {
                return null;
            }
            long from = panel.claimed;
            long to = Math.min(panel.windowEnd, (from + requestBytes) / DataFile.UNIT * DataFile.UNIT);
            if (panel.windowEnd - to < DataFile.UNIT) { // no crumbs
                to = panel.windowEnd;
            }
            var request = new Request(panel, null, from, to, to - from);
            panel.claimed = to;
            panel.reading++;
            panelReads++;
            if (panel.isClaimed()) {
                mine.remove();
            }
            return request;
        }

        /** Begins a request; without a ring, or where it takes more than one read of the file, it ends here too. */
        private void start(Request request, int place, @Nullable ReadRing ring) throws IOException {
            Thread.interrupted(); // whoever interrupted this thread must not close the file by that
            Panel panel = request.panel;
            if (panel == null) {
                finish(place, readRows(request));
            } else if (request.isTail) {
                finish(place, readTail(request, panel));
            } else if (residents.isOnDevice()) {
                panel.file.readOnDevice(request.from, request.to, panel.window(), request.from - panel.windowStart,
                        scratch, request.tally);
                finish(place, panel.wanted(request.from, request.to));
            } else if (ring == null || !panel.file.canSubmit(request.from, request.to)
                    || !submit(request, panel, place, ring)) {
                panel.file.read(request.from, request.to, panel.window(), request.from - panel.windowStart, scratch,
                        request.tally);
                finish(place, panel.wanted(request.from, request.to));
            }
        }

        /** False when the ring takes no more, which a read without it may well survive. */
        private boolean submit(Request request, Panel panel, int place, ReadRing ring) {
            try {
                panel.file.submit(ring, request.from, request.to, panel.window(), request.from - panel.windowStart,
                        place);
                return true;
            } catch (IOException e) {
                LOG.log(System.Logger.Level.DEBUG, "{0}: read without it", e.getMessage());
                return false;
            }
        }

        private void complete(long place, int bytes) throws IOException {
            Request request = Objects.requireNonNull(underWay[(int) place]);
            Panel panel = Objects.requireNonNull(request.panel);
            panel.file.complete(request.from, request.to, panel.window(), request.from - panel.windowStart, bytes,
                    request.tally);
            finish((int) place, panel.wanted(request.from, request.to));
        }

        private long readRows(Request request) throws IOException {
            Pieces pieces = Objects.requireNonNull(request.rows).pieces;
            List<Piece> group = pieces.list.subList((int) request.from, (int) request.to);
            DataFile file = group.getFirst().file;
            long start = file.readInto(scratch, group.getFirst().source, group.getLast().end(), request.tally);
            file.didRead(group.getFirst().source, group.getLast().end() - start);
            file.checkUnchanged();
            long wanted = 0;
            for (Piece piece : group) {
                MemorySegment.copy(scratch, piece.source - start, pieces.destination, piece.target, piece.length);
                wanted += piece.length;
            }
            return wanted;
        }

        private long readTail(Request request, Panel panel) throws IOException {
            DataFile file = Objects.requireNonNull(panel.tailFile);
            long start = file.readInto(scratch, request.from, request.to, request.tally);
            MemorySegment.copy(scratch, request.from - start, panel.tailMemory(request.from), 0,
                    request.to - request.from);
            return request.to - request.from;
        }

        private void finish(int place, long wanted) throws IOException {
            Request request = Objects.requireNonNull(underWay[place]);
            long end = System.nanoTime();
            if (request.panel != null) {
                var file = request.isTail ? Objects.requireNonNull(request.panel.tailFile) : request.panel.file;
                file.didRead(request.from, request.tally.read);
            }
            telemetry.read(request.panel == null ? Telemetry.LOOKUP : request.panel.index(), lane(place),
                    request.tally.read, request.startNanos, end);
            lock.lock();
            try {
                readBytes += request.tally.read;
                verifiedBytes += request.tally.verified;
                paddingBytes += request.tally.read - wanted;
                if (request.rows != null) {
                    rowBytes += wanted;
                }
                endRequest(place, wanted);
            } finally {
                lock.unlock();
            }
        }

        private void fail(Throwable e) {
            lock.lock();
            try {
                if (failure == null) {
                    failure = e;
                }
                if (waiting != null) {
                    underWay[freePlace()] = waiting;
                    waiting = null;
                }
                for (int i = 0; i < underWay.length; i++) {
                    endRequest(i, 0);
                }
                signalAll();
            } finally {
                lock.unlock();
            }
        }

        private void endRequest(int place, long wanted) {
            Request request = underWay[place];
            underWay[place] = null;
            if (request == null) {
                return;
            }
            count--;
            requestsAhead.remove(request);
            Panel panel = request.panel;
            if (panel != null) {
                panel.wantedBytes += wanted;
                panel.reading--;
                panelReads--;
                if (panel.unwanted && panel.reading == 0 && experts != null) {
                    endReadAhead(experts, panel);
                }
                if (panel.slot != null && panel.tail != null && panel.reading == 0 && !restarting && failure == null
                        && panel.tailClaimed == panel.tail.offset() && panel.tailIsDue()) {
                    boolean ahead = readAhead.get(panel.index() - cycle.size()) == panel;
                    (ahead ? tailsAhead : tails).add(panel);
                    work.signalAll();
                }
                if (panel.isComplete() && failure == null) {
                    if (panel.slot != null) {
                        panel.slot.filled = true;
                        ready.signal();
                    }
                    if (panel.resident) {
                        residents.endFill(panel.index(), panel.wantedBytes);
                    }
                    if (panel.position == position) {
                        ready.signal();
                    }
                }
            }
            if (request.rows != null) {
                request.rows.reading--;
            }
            boolean awaited = request.rows != null && request.rows.reading == 0 || restarting && panelReads == 0;
            if (awaited || failure != null) {
                idle.signalAll();
            }
        }
    }

    /** Begins the next panel of an expert that was asked for, or null when there is none or no slot is free. */
    private @Nullable Panel beginExpert() {
        Integer next = expertsToRead.peek();
        var slot = next == null || experts == null ? null : experts.take(next);
        if (slot == null) {
            return null;
        }
        expertsToRead.remove();
        var panel = new Panel(this, cycle.size() + next, experts.extents(next), files, experts.window(slot), slot);
        expertsRead.put(next, panel);
        return panel;
    }

    /** Begins the next panel that may be asked for, or null when there is none or no slot is free. */
    private @Nullable Panel beginAhead(ExpertCache cache) {
        Integer next = predictions.peek();
        var slot = next == null ? null : cache.takeAhead(next);
        if (slot == null) {
            return null;
        }
        predictions.remove();
        var panel = new Panel(this, cycle.size() + next, cache.extents(next), files, cache.window(slot), slot);
        panel.predicted = true;
        readAhead.put(next, panel);
        return panel;
    }

    /** Begins the next panel of the schedule that is not in memory, or null when there is none or the ring is full. */
    private @Nullable Panel begin() {
        for (int skipped = 0; skipped < cycle.size(); skipped++) {
            int index = (int) (planPosition % cycle.size());
            boolean chosen = residents.isChosen(index);
            if (!chosen || residents.isEmpty(index)) {
                if (outstanding == limit) {
                    return null;
                }
                Panel panel = newPanel(index, planPosition++, residents.window(index) != null);
                if (chosen) {
                    residents.beginFill(index);
                }
                outstanding++;
                planned.add(panel);
                return panel;
            }
            planPosition++;
        }
        return null;
    }

    // ---- the end

    /**
     * Ends all reading, waits for the reader threads, and frees the ring. A thread that waits in {@link #next} or
     * {@link #lookup} gets an exception; panels that are held must not be used any more.
     */
    @Override
    public void close() {
        lock.lock();
        try {
            closed = true;
            signalAll();
        } finally {
            lock.unlock();
        }
        joinReaders();
        lookupLock.lock(); // a lookup that copies rows ends before their memory goes
        lock.lock();
        try {
            if (!detached) {
                detached = true;
                discardPlanned();
                discardedBytes += residents.detach();
                if (experts != null) {
                    experts.detach();
                }
                blocks.forEach(HostBlock::close);
            }
        } finally {
            lock.unlock();
            lookupLock.unlock();
        }
    }

    private void signalAll() {
        for (Condition condition : List.of(work, lookups, ready, idle, paced)) {
            condition.signalAll();
        }
    }

    private void joinReaders() {
        boolean interrupted = false;
        for (Thread thread : threads) {
            while (thread.isAlive()) {
                try {
                    thread.join();
                } catch (InterruptedException e) { // they use memory of ours, and end after at most one request
                    interrupted = true;
                }
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
