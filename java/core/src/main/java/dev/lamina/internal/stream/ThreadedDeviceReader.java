package dev.lamina.internal.stream;

import dev.lamina.DeviceReader;
import dev.lamina.DeviceReaderOptions;
import dev.lamina.DeviceReaderOptions.Method;
import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.FileErrors;
import dev.lamina.internal.runtime.Device;
import dev.lamina.internal.runtime.DeviceFile;
import dev.lamina.internal.runtime.Queue;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;

/**
 * A {@link DeviceReader} with threads of its own. Each takes the next piece of the oldest request and does with it what
 * {@link PieceReader} does; a request is complete when its last piece is.
 */
final class ThreadedDeviceReader implements DeviceReader {
    /** One allocation. */
    private static final class Block {
        final MemorySegment memory; // as the device knows it
        final MemorySegment view; // what the program has
        final @Nullable Arena arena; // of a view that Java may look into
        final boolean host;
        int copies; // out of it that are under way
        boolean freed; // or about to be

        Block(MemorySegment memory, boolean host, boolean visible) {
            this.memory = memory;
            this.host = host;
            this.arena = visible ? Arena.ofShared() : null;
            this.view = arena == null ? invisible(memory) : memory.reinterpret(arena, null);
        }

        /** Of a thread that has ended: whoever follows an address of the GPU gets an exception, not a crash. */
        private static MemorySegment invisible(MemorySegment memory) {
            var made = new CompletableFuture<MemorySegment>();
            Thread.ofPlatform().daemon().name("lamina-device-memory")
                    .start(() -> {
                        try {
                            made.complete(memory.reinterpret(Arena.ofConfined(), null));
                        } catch (Throwable e) { // whatever it is, the other thread must not wait for ever
                            made.completeExceptionally(e);
                        }
                    });
            return made.join();
        }

        /** Whether Java may look into it. */
        boolean visible() {
            return arena != null;
        }

        /** The memory behind a slice of the view. */
        MemorySegment slice(MemorySegment of) {
            long at = of.address() - memory.address();
            if (at < 0 || of.byteSize() > memory.byteSize() || at > memory.byteSize() - of.byteSize()) {
                throw new LaminaException(of + " ends beyond the memory that was allocated.");
            }
            return memory.asSlice(at, of.byteSize());
        }
    }

    /** A read that was asked for. */
    private static final class Request {
        final File file;
        final Block block;
        final long offset;
        final MemorySegment to;
        final CompletableFuture<Void> future = new CompletableFuture<>();
        long begun; // bytes
        int underWay; // pieces
        @Nullable Throwable failure;
        @Nullable Thread completing; // tells the program

        Request(File file, long offset, Block block, MemorySegment to) {
            this.file = file;
            this.offset = offset;
            this.block = block;
            this.to = to;
        }

        /** Whether no piece of it will be begun any more. */
        boolean exhausted() {
            return begun == to.byteSize() || failure != null || future.isDone();
        }
    }

    private final class File implements Source {
        private final DataFile data;
        private final @Nullable DeviceFile straight;
        private boolean closed; // guarded by lock

        File(DataFile data, @Nullable DeviceFile straight) {
            this.data = data;
            this.straight = straight;
        }

        @Override
        public Path path() {
            return data.path();
        }

        @Override
        public long size() {
            return data.size();
        }

        @Override
        public Method method() {
            return straight == null ? Method.STAGED : Method.GDS;
        }

        @Override
        public boolean direct() {
            return straight != null && straight.direct();
        }

        @Override
        public CompletableFuture<Void> read(long offset, MemorySegment to) {
            return ThreadedDeviceReader.this.read(this, offset, to);
        }

        @Override
        public void close() {
            refuseOnReader("closed");
            synchronized (lock) {
                closed = true;
            }
            abort(request -> request.file == this, "the file was closed");
            synchronized (lock) {
                if (!files.remove(this)) {
                    return;
                }
                calls++; // its device is open until leave
            }
            try {
                closeFile(this);
            } finally {
                leave();
            }
        }
    }

    private final Device device;
    private final DeviceReaderOptions options;
    private final List<Thread> threads = new ArrayList<>();
    private final Object lock = new Object(); // guards what follows
    private final List<File> files = new ArrayList<>();
    private final List<Block> blocks = new ArrayList<>();
    private final ArrayDeque<Request> waiting = new ArrayDeque<>(); // those with pieces that were not begun
    private final Set<Request> live = new LinkedHashSet<>(); // those, and all that are not complete
    private boolean closed;
    private int calls; // that use the device, or will add what is to be freed
    private long bytes;
    private long busyNanos;
    private long busySince;
    private @Nullable Throwable failure; // of a thread at its end

    private final Object copying = new Object(); // guards what follows, and is taken before lock
    private @Nullable Queue copies;
    private @Nullable HostBlock copySlot;

    private final Object closing = new Object(); // guards what follows, and is taken before all others
    private boolean freed;

    private ThreadedDeviceReader(Device device, DeviceReaderOptions options) {
        this.device = device;
        this.options = options;
    }

    static ThreadedDeviceReader open(DeviceReaderOptions options) {
        var reader = new ThreadedDeviceReader(Device.open(options.device(), 1, false), options);
        try {
            for (int i = 0; i < options.readers(); i++) {
                reader.threads.add(Thread.ofPlatform().daemon().name("lamina-device-reader-" + i)
                        .unstarted(reader::runReader));
            }
            reader.threads.forEach(Thread::start);
        } catch (Throwable e) { // the system gives no more threads
            reader.close();
            throw e;
        }
        return reader;
    }

    @Override
    public String device() {
        return device.info().toString();
    }

    // -- files and memory ---------------------------------------------------------------------------------------------

    @Override
    public Source openFile(Path path) {
        enter();
        DataFile data = null;
        DeviceFile straight = null;
        try {
            data = openData(path);
            straight = openStraight(path);
            var file = new File(data, straight);
            synchronized (lock) {
                files.add(file);
            }
            return file;
        } catch (IOException e) {
            closeQuietly(data, straight, e);
            throw FileErrors.explain("cannot open " + path, e);
        } catch (Throwable e) {
            closeQuietly(data, straight, e);
            throw e;
        } finally {
            leave();
        }
    }

    /** Begins a call that closing waits for, and that holds no lock, because it may take long. */
    private void enter() {
        synchronized (lock) {
            refuseClosed();
            calls++;
        }
    }

    private void leave() {
        synchronized (lock) {
            calls--;
            lock.notifyAll();
        }
    }

    private static DataFile openData(Path path) throws IOException {
        try {
            return DataFile.open(path, IoMode.PREAD, 0, null);
        } catch (NoDirectReadsException e) {
            return DataFile.open(path, IoMode.BUFFERED, 0, null);
        }
    }

    private @Nullable DeviceFile openStraight(Path path) throws IOException {
        boolean auto = options.method() == Method.AUTO;
        if (options.method() == Method.STAGED || auto && device.info().unified()) {
            return null;
        }
        try {
            DeviceFile file = device.openFile(path);
            if (!auto || file.direct()) {
                return file;
            }
            file.close();
            return null;
        } catch (UnsupportedOperationException e) {
            if (auto) {
                return null;
            }
            throw new LaminaException(path + ": " + e.getMessage() + ". Use the method AUTO or STAGED", e);
        }
    }

    private static void closeQuietly(@Nullable DataFile data, @Nullable DeviceFile straight, Throwable failure) {
        try (DataFile _ = data; DeviceFile _ = straight) {
            return;
        } catch (IOException | RuntimeException e) {
            failure.addSuppressed(e);
        }
    }

    private static void closeFile(File file) {
        try (DataFile _ = file.data; DeviceFile _ = file.straight) {
            return;
        } catch (IOException e) {
            throw FileErrors.explain("cannot close " + file.path(), e);
        }
    }

    @Override
    public MemorySegment allocate(long size) {
        return allocate(size, false);
    }

    @Override
    public MemorySegment allocateHost(long size) {
        return allocate(size, true);
    }

    private MemorySegment allocate(long size, boolean host) {
        if (size <= 0) {
            throw new LaminaException("No memory of " + size + " bytes can be allocated: ask for one or more.");
        }
        enter();
        try {
            MemorySegment memory = host ? device.allocate(size) : device.allocateOnDevice(size);
            Block block = null;
            try {
                block = new Block(memory, host, host || device.info().unified());
            } finally {
                if (block == null) {
                    release(memory, host);
                }
            }
            synchronized (lock) {
                blocks.add(block);
            }
            return block.view;
        } finally {
            leave();
        }
    }

    private void release(MemorySegment memory, boolean host) {
        if (host) {
            device.free(memory);
        } else {
            device.freeOnDevice(memory);
        }
    }

    @Override
    public void free(MemorySegment memory) {
        refuseOnReader("freed");
        Block block;
        synchronized (lock) {
            block = find(memory);
            if (block.view.address() != memory.address() || block.view.byteSize() != memory.byteSize()) {
                throw new LaminaException("What is to be freed is a part of an allocation: free all of it.");
            }
            block.freed = true; // nothing finds it from now on
        }
        abort(request -> request.block == block, "its memory was freed");
        synchronized (lock) {
            while (block.copies > 0) {
                await();
            }
            if (!blocks.remove(block)) {
                return; // the reader was closed meanwhile
            }
            calls++; // its device is open until leave
        }
        try {
            free(block);
        } catch (IllegalStateException e) {
            synchronized (lock) {
                block.freed = false;
                blocks.add(block);
            }
            throw new LaminaException("The memory cannot be freed while a native call uses it: wait for that.", e);
        } finally {
            leave();
        }
    }

    private void free(Block block) {
        if (block.arena != null) {
            block.arena.close(); // Java cannot follow its address any more
        }
        release(block.memory, block.host);
    }

    private Block find(MemorySegment memory) {
        for (Block block : blocks) {
            if (!block.freed && block.view.scope().equals(memory.scope())) {
                return block;
            }
        }
        throw new LaminaException(memory + " is not memory of this reader, or was freed:"
                + " read into what allocate or allocateHost returned.");
    }

    @Override
    public void copyToHost(MemorySegment from, MemorySegment to) {
        Block block;
        MemorySegment source;
        synchronized (lock) {
            refuseClosed();
            block = find(from);
            source = block.slice(from);
            if (to.byteSize() != from.byteSize() || to.isReadOnly()) {
                throw new LaminaException(from.byteSize() + " bytes cannot be copied to " + to
                        + ": it must be writable and have as many.");
            }
            block.copies++;
        }
        try {
            if (block.visible()) {
                to.copyFrom(source);
            } else {
                copyFromDevice(source, to);
            }
        } finally {
            synchronized (lock) {
                block.copies--;
                lock.notifyAll();
            }
        }
    }

    private void copyFromDevice(MemorySegment from, MemorySegment to) {
        synchronized (copying) {
            if (copies == null) {
                copies = device.openQueue();
            }
            if (copySlot == null) {
                copySlot = HostBlock.allocate(device, options.requestBytes(), 1);
            }
            for (long done = 0; done < from.byteSize();) {
                long part = Math.min(options.requestBytes(), from.byteSize() - done);
                var slot = copySlot.memory().asSlice(0, part);
                copies.await(copies.copyToHost(slot, from.asSlice(done, part)));
                MemorySegment.copy(slot, 0, to, done, part);
                done += part;
            }
        }
    }

    // -- reading ------------------------------------------------------------------------------------------------------

    private CompletableFuture<Void> read(File file, long offset, MemorySegment to) {
        if (offset < 0 || offset > file.size() || to.byteSize() > file.size() - offset) {
            throw new LaminaException(file.path() + ": " + to.byteSize() + " bytes at offset " + offset
                    + " end beyond the file, which has " + file.size() + " bytes.");
        }
        if (to.isReadOnly()) {
            throw new LaminaException(to + " is read-only: nothing can be read into it.");
        }
        synchronized (lock) {
            refuseClosed();
            if (file.closed) {
                throw new LaminaException(file.path() + ": the file is closed: open it again.");
            }
            Block block = find(to);
            var request = new Request(file, offset, block, block.slice(to));
            if (to.byteSize() == 0) {
                request.future.complete(null);
                return request.future;
            }
            if (live.isEmpty()) {
                busySince = System.nanoTime();
            }
            live.add(request);
            waiting.add(request);
            lock.notifyAll();
            return request.future;
        }
    }

    private void runReader() {
        try (var reader = new PieceReader(device, options.requestBytes())) {
            for (;;) {
                PieceReader.Piece piece = take(!reader.copying());
                if (piece != null) {
                    reader.read(piece);
                } else if (reader.copying()) {
                    reader.finish();
                } else {
                    return;
                }
            }
        } catch (Throwable e) { // closing it
            synchronized (lock) {
                failure = e;
            }
        }
    }

    /** The next piece; null where there is none: after closing, or at once for one that does not want to wait. */
    private PieceReader.@Nullable Piece take(boolean wait) {
        for (;;) {
            Request given = null; // up, by the program
            synchronized (lock) {
                Request request = waiting.peek();
                if (request == null) {
                    if (closed || !wait) {
                        return null;
                    }
                    await();
                } else if (request.exhausted()) {
                    waiting.remove();
                    given = settle(request);
                } else {
                    return cut(request);
                }
            }
            complete(given);
        }
    }

    /** Up to the next multiple of the size of requests, so that all but the ends of a read are aligned. */
    private PieceReader.Piece cut(Request request) {
        long from = request.offset + request.begun;
        long end = request.offset + request.to.byteSize();
        long to = Math.min(end, (from / options.requestBytes() + 1) * options.requestBytes());
        var place = request.to.asSlice(request.begun, to - from);
        request.begun += to - from;
        request.underWay++;
        boolean onDevice = !request.block.host;
        return new PieceReader.Piece(request.file.data, onDevice ? request.file.straight : null, from, place,
                onDevice && !request.block.visible(), why -> ended(request, from, place.byteSize(), why));
    }

    private void ended(Request request, long offset, long length, @Nullable Throwable why) {
        Throwable failed = why;
        if (failed == null) {
            try {
                request.file.data.didRead(offset, length);
            } catch (IOException | RuntimeException e) {
                failed = e;
            }
        }
        Request settled;
        synchronized (lock) {
            request.underWay--;
            if (failed == null) {
                bytes += length;
            } else if (request.failure == null) {
                request.failure = failed;
            }
            settled = settle(request);
        }
        complete(settled);
    }

    /** Returns a request that nothing is read for any more, for the calling thread to complete; null: not this one. */
    private @Nullable Request settle(Request request) {
        if (request.underWay > 0 || !request.exhausted() || request.completing != null) {
            return null;
        }
        request.completing = Thread.currentThread();
        return request;
    }

    /** Lets go of a request. No lock is held, for the program may do what it likes when it hears of it. */
    private void complete(@Nullable Request request) {
        if (request == null) {
            return;
        }
        tell(request);
        synchronized (lock) {
            live.remove(request);
            if (live.isEmpty()) {
                busyNanos += System.nanoTime() - busySince;
            }
            lock.notifyAll();
        }
    }

    private static void tell(Request request) {
        Throwable failed = request.failure;
        if (failed == null && !request.future.isDone()) {
            try {
                request.file.data.checkUnchanged();
            } catch (IOException e) {
                failed = e;
            }
        }
        switch (failed) {
            case null -> request.future.complete(null);
            case LaminaException e -> request.future.completeExceptionally(e);
            case IOException e -> request.future.completeExceptionally(FileErrors.explain("a read failed", e));
            default -> request.future.completeExceptionally(
                    new LaminaException(request.file.path() + ": reading it failed: " + failed, failed));
        }
    }

    /** Fails requests, and returns when nothing is read for them any more; no others of their kind come. */
    private void abort(Predicate<Request> which, String why) {
        var given = new ArrayList<Request>(); // up
        synchronized (lock) {
            waiting.removeIf(which);
            for (Request request : List.copyOf(live)) {
                if (which.test(request)) {
                    if (!request.exhausted()) {
                        request.failure = new LaminaException(request.file.path() + ": a read of "
                                + request.to.byteSize() + " bytes at offset " + request.offset
                                + " was given up: " + why + ".");
                    }
                    Request settled = settle(request);
                    if (settled != null) {
                        given.add(settled);
                    }
                }
            }
        }
        given.forEach(this::complete);
        var others = which.and(request -> request.completing != Thread.currentThread());
        synchronized (lock) {
            while (live.stream().anyMatch(others)) {
                await();
            }
        }
    }

    /** Waits until something has changed, whoever interrupts. */
    private void await() {
        boolean interrupted = false;
        try {
            for (;;) {
                try {
                    lock.wait();
                    return;
                } catch (InterruptedException e) {
                    interrupted = true;
                }
            }
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    private void refuseClosed() {
        if (closed) {
            throw new LaminaException("The reader is closed: open another one.");
        }
    }

    private void refuseOnReader(String what) {
        if (threads.contains(Thread.currentThread())) {
            throw new LaminaException("What a reader uses cannot be " + what + " on its own threads, where its futures"
                    + " complete: use another thread.");
        }
    }

    @Override
    public Stats stats() {
        synchronized (lock) {
            long nanos = busyNanos + (live.isEmpty() ? 0 : System.nanoTime() - busySince);
            return new Stats(bytes, nanos * 1e-9);
        }
    }

    // -- the end ------------------------------------------------------------------------------------------------------

    @Override
    public void close() {
        refuseOnReader("closed");
        synchronized (closing) {
            if (freed) {
                return;
            }
            freed = true;
            synchronized (lock) {
                closed = true;
                lock.notifyAll();
            }
            abort(request -> true, "the reader was closed");
            threads.forEach(ThreadedDeviceReader::join);
            var all = new ArrayList<@Nullable AutoCloseable>();
            synchronized (lock) {
                while (calls > 0 || blocks.stream().anyMatch(block -> block.copies > 0)) {
                    await();
                }
                blocks.forEach(block -> all.add(() -> free(block)));
                files.forEach(file -> all.add(() -> closeFile(file)));
                blocks.clear();
                files.clear();
            }
            synchronized (copying) {
                all.add(copies);
                all.add(copySlot);
            }
            all.add(device); // the last one: it has no children any more
            closeAll(all);
        }
    }

    private static void join(Thread thread) {
        boolean interrupted = false;
        while (thread.isAlive()) {
            try {
                thread.join();
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    /** All of them, whatever goes wrong with some; then tells of the first failure. */
    private void closeAll(List<@Nullable AutoCloseable> all) {
        Throwable first;
        synchronized (lock) {
            first = failure;
        }
        for (AutoCloseable resource : all) {
            try {
                if (resource != null) {
                    resource.close();
                }
            } catch (Throwable e) {
                if (first == null) {
                    first = e;
                } else {
                    first.addSuppressed(e);
                }
            }
        }
        if (first != null) {
            throw first instanceof LaminaException known ? known
                    : new LaminaException("Closing the reader failed: " + first, first);
        }
    }
}
