package dev.lamina.internal.shard;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DurableFiles;
import dev.lamina.internal.checkpoint.FileErrors;
import dev.lamina.internal.checkpoint.SafetensorsHeader;
import dev.lamina.internal.checkpoint.ShardManifest;
import dev.lamina.internal.checkpoint.Tensor;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.function.Function;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;

/**
 * Makes a shard set from a checkpoint: one safetensors file a stage, tensors in the order of their use, each at a
 * multiple of 4096 bytes.
 *
 * <p>The unit of work is a {@link SplitPlan.Piece}: the tensors that go from one file of the original to one shard.
 * It is copied into a shard under a temporary name, synced, and then noted in the journal ({@code
 * lamina.manifest.json.partial}), which also holds the plan. So a split that was killed goes on where it was. If the
 * original is to be deleted, pieces are taken file by file of the original and read back from the disk before they
 * are noted, and a file is deleted as soon as all its pieces are: there is never more than the model and one of its
 * files. The manifest is written last.
 */
public final class Splitter {
    private static final int BUFFER_BYTES = 8 << 20;
    private static final long MAX_COPIED_FILE_BYTES = 64L << 20;
    /** What the file system itself may take for the new files. */
    private static final long SPACE_MARGIN = 1L << 20;

    private static final Set<String> COPIED_EXTENSIONS = Set.of("json", "jinja", "model", "tiktoken", "txt", "md");
    private static final List<String> COPIED_PREFIXES = List.of("LICENSE", "LICENCE", "NOTICE", "README", "USE_POLICY");

    /** What tests replace: the free space, and a word before each change of the disk. */
    interface Disk {
        long usableBytes(Path existingFolder) throws IOException;

        void beforeChange(Path file) throws IOException;
    }

    private static final Disk REAL_DISK = new Disk() {
        @Override
        public long usableBytes(Path existingFolder) throws IOException {
            return Files.getFileStore(existingFolder).getUsableSpace();
        }

        @Override
        public void beforeChange(Path file) {}
    };

    private final Path model;
    private final Path out;
    private final SplitOptions options;
    private final SplitListener listener;
    private final Disk disk;
    private final Original original;
    private final ByteBuffer buffer = UncachedFile.buffer(BUFFER_BYTES);
    private final List<Path> freed = new ArrayList<>();
    private final List<String> kept = new ArrayList<>();
    private final List<Path> createdFolders = new ArrayList<>();

    private Splitter(Path model, Path out, SplitOptions options, SplitListener listener, Disk disk) {
        this.model = model;
        this.out = out;
        this.options = options;
        this.listener = listener;
        this.disk = disk;
        this.original = new Original(model);
    }

    /**
     * Splits a checkpoint, or goes on with a split that was interrupted, or finds that it was done already.
     *
     * @param model folder of the checkpoint
     * @param out folder of the shard set: absent, empty, or a set of the same model, finished or not
     * @param stages gives the stages of the model's program in the order in which they run; not called if the split was
     *     begun before
     * @param options how to split
     * @param listener hears of the progress
     * @throws LaminaException if it is not possible; what has been finished stays and the same call goes on with it
     */
    public static SplitResult split(Path model, Path out, Function<Checkpoint, List<StageTensors>> stages,
            SplitOptions options, SplitListener listener) {
        return split(model, out, stages, options, listener, REAL_DISK);
    }

    static SplitResult split(Path model, Path out, Function<Checkpoint, List<StageTensors>> stages,
            SplitOptions options, SplitListener listener, Disk disk) {
        try {
            return new Splitter(model.toAbsolutePath(), out.toAbsolutePath(), options, listener, disk)
                    .run(stages);
        } catch (IOException e) {
            throw FileErrors.explain("cannot split " + model + " into " + out, e);
        } catch (UncheckedIOException e) {
            throw FileErrors.explain("cannot split " + model + " into " + out, e.getCause());
        }
    }

    private SplitResult run(Function<Checkpoint, List<StageTensors>> stages) throws IOException {
        checkFolders();
        if (Files.exists(manifestFile())) {
            return complete();
        }
        SplitPlan fresh = null;
        if (!Files.exists(journalFile())) {
            checkUnused();
            fresh = plan(stages);
        }
        createFolders();
        try (SplitJournal journal = SplitJournal.open(journalFile(), model)) {
            if (!Files.exists(manifestFile())) {
                return run(journal, fresh, stages);
            }
        }
        // another split finished between our look and our lock
        return complete();
    }

    private SplitResult run(SplitJournal journal, @Nullable SplitPlan fresh,
            Function<Checkpoint, List<StageTensors>> stages) throws IOException {
        SplitPlan begun = journal.plan();
        Work work;
        if (fresh != null && begun == null) {
            work = new Work(fresh, journal);
        } else {
            // an earlier run was interrupted, if only before it could store its plan
            if (begun != null) {
                original.checkSame(begun.source(), begun.tensors(), out);
            }
            work = new Work(begun == null ? plan(stages) : begun, journal);
            work.takeUp();
            checkSpace(work.plan, work.done.keySet());
        }
        try {
            if (begun == null) {
                disk.beforeChange(journalFile());
                journal.begin(work.plan);
            }
            long copied = work.copy();
            finish(work);
            return new SplitResult(out, false, copied, List.copyOf(freed), List.copyOf(kept));
        } catch (IOException | RuntimeException e) {
            cleanUp(work, e);
            throw e;
        }
    }

    private Path manifestFile() {
        return out.resolve(ShardManifest.FILE_NAME);
    }

    private Path journalFile() {
        return DurableFiles.partial(manifestFile());
    }

    // ---- before anything is written

    private void checkFolders() throws IOException {
        if (!Files.isDirectory(model)) {
            throw new LaminaException(model + (Files.exists(model) ? " is not a folder" : " does not exist")
                    + "; give the folder of the model");
        }
        if (Files.exists(out) && !Files.isDirectory(out)) {
            throw new LaminaException(out + " is a file; choose a folder for the shards");
        }
        Path existing = existingAncestor();
        Path realOut = existing.toRealPath().resolve(existing.relativize(out)).normalize();
        Path realModel = model.toRealPath();
        if (realOut.startsWith(realModel) || realModel.startsWith(realOut)) {
            throw new LaminaException("the shards cannot go to " + out + ", because that is in the model's folder or "
                    + "around it; choose another folder");
        }
    }

    private Path existingAncestor() {
        Path folder = out;
        while (!Files.exists(folder)) {
            folder = folder.getParent();
        }
        return folder;
    }

    private void checkUnused() throws IOException {
        if (!Files.exists(out)) {
            return;
        }
        try (Stream<Path> entries = Files.list(out)) {
            if (entries.findAny().isPresent()) {
                throw new LaminaException(out + " is not empty and holds no shard set; choose another folder");
            }
        }
    }

    private SplitPlan plan(Function<Checkpoint, List<StageTensors>> stages) throws IOException {
        Checkpoint checkpoint = Checkpoint.open(model);
        if (checkpoint.manifest() != null) {
            throw new LaminaException(model + " is a shard set already; use it as it is");
        }
        if (checkpoint.tensors().isEmpty()) {
            throw new LaminaException(model + " holds no tensors; download the model again");
        }
        SplitPlan plan = SplitPlan.of(checkpoint, original.describe(checkpoint), stages.apply(checkpoint));
        checkDeletable(plan);
        checkSpace(plan, Set.of());
        return plan;
    }

    private void checkDeletable(SplitPlan plan) throws IOException {
        for (ShardManifest.SourceFile source : plan.source().files()) {
            Path file = model.resolve(source.name());
            if (options.deleteOriginal() && Files.exists(file) && original.reasonToKeep(file) == null
                    && !(Files.isWritable(file.getParent()) && Files.isWritable(file.toRealPath().getParent()))) {
                throw new LaminaException("no permission to delete " + file
                        + "; change the permissions of its folder, or split without deleting the original");
            }
        }
    }

    private void checkSpace(SplitPlan plan, Set<SplitPlan.Piece> done) throws IOException {
        Path folder = existingAncestor();
        long needed = spaceNeeded(plan, done, options.deleteOriginal(), folder);
        long usable = disk.usableBytes(folder);
        if (needed > usable) {
            long withDeletion = spaceNeeded(plan, done, true, folder);
            String advice = !options.deleteOriginal() && withDeletion <= usable
                    ? ", or delete the original on the way (--delete-original), which needs " + gib(withDeletion)
                    : "";
            throw new LaminaException("the shards need " + gib(needed) + " of free space in " + folder + ", which has "
                    + gib(usable) + "; free " + gib(needed - usable) + advice);
        }
    }

    private static String gib(long bytes) {
        return bytes < 1L << 30
                ? String.format(Locale.ROOT, "%.1f MiB", Math.ceil(bytes * 10 / (double) (1 << 20)) / 10)
                : String.format(Locale.ROOT, "%.2f GiB", Math.ceil(bytes * 100 / (double) (1 << 30)) / 100);
    }

    /** Returns the most that the split will take beyond what is taken now. */
    private long spaceNeeded(SplitPlan plan, Set<SplitPlan.Piece> done, boolean delete, Path folder)
            throws IOException {
        long[] bytesOfFile = new long[plan.source().files().size()];
        long chunks = 0;
        long taken = SPACE_MARGIN + SplitJournal.line(plan.encode()).length;
        for (SplitPlan.Shard shard : plan.shards()) {
            taken += shard.layout().fileBytes() - shard.tensors().stream().mapToLong(Tensor::bytes).sum();
            chunks += ShardManifest.chunks(shard.layout().fileBytes());
        }
        // the checksums, in hex, in the journal and in the manifest
        taken += 2 * 8 * chunks;
        for (Path file : filesToCopy()) {
            taken += Files.size(file);
        }
        for (var piece : plan.pieces().entrySet()) {
            if (!done.contains(piece.getKey())) {
                bytesOfFile[piece.getKey().file()] += piece.getValue();
            }
        }
        long most = taken;
        for (int i = 0; i < bytesOfFile.length; i++) {
            taken += bytesOfFile[i];
            most = Math.max(most, taken);
            Path file = model.resolve(plan.source().files().get(i).name());
            if (delete && Files.exists(file)) {
                taken -= original.bytesFreed(file, folder);
            }
        }
        return most;
    }

    private void createFolders() throws IOException {
        for (Path folder = out; !Files.exists(folder); folder = folder.getParent()) {
            createdFolders.add(folder);
        }
        disk.beforeChange(out);
        Files.createDirectories(out);
        for (Path folder : createdFolders) { // their names must be on disk before any original is deleted
            DurableFiles.syncDirectory(folder.getParent());
        }
    }

    // ---- copying

    /** The pieces of a plan, and how far they are. */
    private final class Work {
        final SplitPlan plan;
        final SplitJournal journal;
        final Map<SplitPlan.Piece, Long> pieces;
        /** The checksums of the pieces that are safe on disk. */
        final Map<SplitPlan.Piece, int[]> done = new HashMap<>();

        Work(SplitPlan plan, SplitJournal journal) {
            this.plan = plan;
            this.journal = journal;
            this.pieces = plan.pieces();
        }

        Path target(int shard) {
            return out.resolve(plan.shards().get(shard).file());
        }

        Path sourceFile(int file) {
            return model.resolve(plan.source().files().get(file).name());
        }

        /** Returns the positions in its shard of the tensors of a piece. */
        int[] tensors(SplitPlan.Piece piece) {
            List<Tensor> tensors = plan.shards().get(piece.shard()).tensors();
            return IntStream.range(0, tensors.size())
                    .filter(i -> plan.fileOf(tensors.get(i)) == piece.file()).toArray();
        }

        /** Verifies what earlier runs left, and keeps what is sound. */
        void takeUp() throws IOException {
            checkDeletable(plan);
            for (int file = 0; file < plan.source().files().size(); file++) {
                checkUnchanged(file);
            }
            long total = journal.finished().keySet().stream().mapToLong(piece -> pieces.getOrDefault(piece, 0L)).sum();
            Progress progress = new Progress(SplitListener.Phase.VERIFY, total);
            for (SplitPlan.Piece piece : pieces.keySet()) {
                int[] checksums = journal.finished().get(piece);
                if (checksums != null && isSound(piece, checksums, progress)) {
                    done.put(piece, checksums);
                } else if (!Files.exists(sourceFile(piece.file()))) {
                    throw new LaminaException(sourceFile(piece.file()) + " is missing, and its tensors in "
                            + target(piece.shard()) + " are not complete; download that file again, or the whole model "
                            + "into another folder");
                }
            }
            for (int shard = 0; shard < plan.shards().size(); shard++) {
                Path target = target(shard);
                Path temporary = DurableFiles.partial(target);
                if (Files.exists(target) && !(isDone(shard) && hasSoundFrame(shard))) {
                    disk.beforeChange(target);
                    Files.move(target, temporary, StandardCopyOption.ATOMIC_MOVE);
                }
                if (Files.exists(temporary)) {
                    trim(shard, temporary);
                }
            }
        }

        /** Gives back the space of a part that was being copied when an earlier run was killed. */
        private void trim(int shard, Path temporary) throws IOException {
            SplitPlan.Shard planned = plan.shards().get(shard);
            long end = 0;
            for (int i = 0; i < planned.tensors().size(); i++) {
                Tensor tensor = planned.tensors().get(i);
                if (done.containsKey(new SplitPlan.Piece(shard, plan.fileOf(tensor)))) {
                    end = planned.layout().offset(i) + tensor.bytes();
                }
            }
            disk.beforeChange(temporary);
            try (FileChannel channel = FileChannel.open(temporary, StandardOpenOption.WRITE)) {
                channel.truncate(end);
            }
        }

        private void checkUnchanged(int file) throws IOException {
            Path source = sourceFile(file);
            List<Tensor> planned = plan.tensors().stream().filter(tensor -> plan.fileOf(tensor) == file).toList();
            if (Files.exists(source)
                    && !new HashSet<>(SafetensorsHeader.read(source).tensors()).containsAll(planned)) {
                throw new LaminaException(source + " was changed since the split began; delete " + out
                        + " and split again");
            }
        }

        private boolean isSound(SplitPlan.Piece piece, int[] checksums, Progress progress) throws IOException {
            Path target = target(piece.shard());
            Path file = Files.exists(target) ? target : DurableFiles.partial(target);
            return Files.exists(file) && Arrays.equals(readBack(piece, file, progress), checksums);
        }

        private boolean hasSoundFrame(int shard) throws IOException {
            var layout = plan.shards().get(shard).layout();
            try (FileChannel channel = FileChannel.open(target(shard), StandardOpenOption.READ)) {
                ByteBuffer header = ByteBuffer.allocate(layout.headerBytes());
                while (header.hasRemaining() && channel.read(header, header.position()) >= 0) {
                    continue;
                }
                return channel.size() == layout.fileBytes() && Arrays.equals(header.array(), layout.header());
            }
        }

        boolean isDone(int shard) {
            return pieces.keySet().stream().filter(piece -> piece.shard() == shard).allMatch(done::containsKey);
        }

        boolean isFileDone(int file) {
            return pieces.keySet().stream().filter(piece -> piece.file() == file).allMatch(done::containsKey);
        }

        /** Copies what is missing and returns its size. */
        long copy() throws IOException {
            for (int shard = 0; shard < plan.shards().size(); shard++) {
                finishShard(shard);
            }
            for (int file = 0; file < plan.source().files().size(); file++) {
                free(file);
            }
            Stream<SplitPlan.Piece> order = pieces.keySet().stream().filter(piece -> !done.containsKey(piece));
            if (options.deleteOriginal()) {
                order = order.sorted(Comparator.comparingInt(SplitPlan.Piece::file));
            }
            List<SplitPlan.Piece> missing = order.toList();
            Progress progress =
                    new Progress(SplitListener.Phase.COPY, missing.stream().mapToLong(pieces::get).sum());
            for (SplitPlan.Piece piece : missing) {
                copy(piece, progress);
                finishShard(piece.shard());
                free(piece.file());
            }
            return progress.done;
        }

        private void copy(SplitPlan.Piece piece, Progress progress) throws IOException {
            SplitPlan.Shard shard = plan.shards().get(piece.shard());
            Path temporary = DurableFiles.partial(target(piece.shard()));
            disk.beforeChange(temporary);
            List<int[]> checksums = new ArrayList<>();
            try (FileChannel source = FileChannel.open(sourceFile(piece.file()), StandardOpenOption.READ);
                    FileChannel target = FileChannel.open(temporary, StandardOpenOption.CREATE,
                            StandardOpenOption.WRITE)) {
                DurableFiles.writeFully(target, ByteBuffer.wrap(shard.layout().header()), 0);
                for (int i : tensors(piece)) {
                    checksums.add(copy(source, shard.tensors().get(i), target, shard.layout().offset(i), progress));
                }
                target.force(true);
            }
            DurableFiles.syncDirectory(out);
            int[] all = checksums.stream().flatMapToInt(Arrays::stream).toArray();
            if (options.deleteOriginal() && !Arrays.equals(all, readBack(piece, temporary, null))) {
                throw new LaminaException(temporary + " reads differently from what was written to it: the disk may be "
                        + "failing; the original of this part was kept");
            }
            disk.beforeChange(journalFile());
            journal.finish(piece, all);
            done.put(piece, all);
        }

        private int[] copy(FileChannel source, Tensor tensor, FileChannel target, long offset, Progress progress)
                throws IOException {
            Checksums.Pieces checksums = new Checksums.Pieces(offset, tensor.bytes());
            for (long at = 0; at < tensor.bytes(); at += buffer.limit()) {
                buffer.clear().limit((int) Math.min(BUFFER_BYTES, tensor.bytes() - at));
                while (buffer.hasRemaining()) {
                    if (source.read(buffer, tensor.offset() + at + buffer.position()) < 0) {
                        throw new IOException(tensor.file() + " became shorter while it was read");
                    }
                }
                checksums.update(buffer.flip());
                disk.beforeChange(out);
                DurableFiles.writeFully(target, buffer, offset + at);
                progress.add(buffer.limit());
            }
            return checksums.finish();
        }

        /** Reads the tensors of a piece from the disk and returns their checksums, none if the file is cut off. */
        private int[] readBack(SplitPlan.Piece piece, Path file, @Nullable Progress progress) throws IOException {
            SplitPlan.Shard shard = plan.shards().get(piece.shard());
            List<int[]> all = new ArrayList<>();
            try (UncachedFile target = UncachedFile.open(file)) {
                for (int i : tensors(piece)) {
                    long bytes = shard.tensors().get(i).bytes();
                    Checksums.Pieces checksums = new Checksums.Pieces(shard.layout().offset(i), bytes);
                    for (long at = 0; at < bytes; at += BUFFER_BYTES) {
                        int wanted = (int) Math.min(BUFFER_BYTES, bytes - at);
                        target.read(buffer, shard.layout().offset(i) + at, wanted);
                        if (buffer.limit() < wanted) {
                            return new int[0];
                        }
                        checksums.update(buffer);
                        if (progress != null) {
                            progress.add(wanted);
                        }
                    }
                    all.add(checksums.finish());
                }
            }
            return all.stream().flatMapToInt(Arrays::stream).toArray();
        }

        /** Gives a shard its name if all of it is there. */
        private void finishShard(int shard) throws IOException {
            Path target = target(shard);
            if (!isDone(shard) || Files.exists(target)) {
                return;
            }
            var layout = plan.shards().get(shard).layout();
            disk.beforeChange(target);
            try (FileChannel channel = FileChannel.open(DurableFiles.partial(target), StandardOpenOption.WRITE)) {
                DurableFiles.writeFully(channel, ByteBuffer.wrap(layout.header()), 0);
                channel.truncate(layout.fileBytes());
                if (channel.size() < layout.fileBytes()) {
                    DurableFiles.writeFully(channel, ByteBuffer.allocate(1), layout.fileBytes() - 1);
                }
                channel.force(true);
            }
            DurableFiles.publish(DurableFiles.partial(target), target);
        }

        /** Deletes a file of the original if that is wanted and all of it is safe. */
        private void free(int file) throws IOException {
            Path source = sourceFile(file);
            if (!options.deleteOriginal() || !isFileDone(file) || !Files.exists(source, LinkOption.NOFOLLOW_LINKS)) {
                return;
            }
            delete(source);
        }

        /** Returns whether nothing is in a shard that could not be copied again, and it is not finished. */
        boolean isRemovable(int shard) {
            List<SplitPlan.Piece> noted =
                    journal.finished().keySet().stream().filter(piece -> piece.shard() == shard).toList();
            boolean copyable = noted.isEmpty() || !options.deleteOriginal()
                    && noted.stream().allMatch(piece -> Files.exists(sourceFile(piece.file())));
            return copyable && !Files.exists(target(shard));
        }

        /** Returns the checksums of a shard that is finished. */
        int[] checksums(int shard) {
            SplitPlan.Shard planned = plan.shards().get(shard);
            Map<Integer, Integer> used = new HashMap<>();
            Checksums.Chunks chunks = new Checksums.Chunks(planned.layout().fileBytes());
            addBytes(chunks, 0, planned.layout().header());
            for (int i = 0; i < planned.tensors().size(); i++) {
                Tensor tensor = planned.tensors().get(i);
                int file = plan.fileOf(tensor);
                long offset = planned.layout().offset(i);
                int count = Checksums.pieces(offset, tensor.bytes());
                int first = used.merge(file, count, Integer::sum) - count;
                int[] ofFile = done.get(new SplitPlan.Piece(shard, file));
                chunks.add(tensor.bytes(), Arrays.copyOfRange(ofFile, first, first + count));
                long end = offset + tensor.bytes();
                addBytes(chunks, end, new byte[(int) (-end & (UncachedFile.ALIGNMENT - 1))]);
            }
            return chunks.finish();
        }

        private void addBytes(Checksums.Chunks chunks, long offset, byte[] bytes) {
            Checksums.Pieces pieces = new Checksums.Pieces(offset, bytes.length);
            pieces.update(ByteBuffer.wrap(bytes));
            chunks.add(bytes.length, pieces.finish());
        }
    }

    private void delete(Path source) throws IOException {
        // a link whose blob is gone was left by a run that was killed between the two
        String reason = Files.exists(source) ? original.reasonToKeep(source) : null;
        if (reason == null) {
            disk.beforeChange(source);
            Original.delete(source);
            freed.add(source);
        } else {
            kept.add(reason);
        }
    }

    /** Adds up bytes for the listener. */
    private final class Progress {
        private final SplitListener.Phase phase;
        private final long total;
        private long done;

        Progress(SplitListener.Phase phase, long total) {
            this.phase = phase;
            this.total = total;
            listener.progress(phase, 0, total);
        }

        void add(long bytes) {
            done += bytes;
            listener.progress(phase, done, total);
        }
    }

    // ---- the end

    private void finish(Work work) throws IOException {
        for (Path file : filesToCopy()) {
            copySmall(file);
        }
        List<ShardManifest.Shard> shards = new ArrayList<>();
        for (int i = 0; i < work.plan.shards().size(); i++) {
            SplitPlan.Shard shard = work.plan.shards().get(i);
            byte[] header = shard.layout().header();
            CRC32C headerChecksum = new CRC32C();
            headerChecksum.update(header);
            shards.add(new ShardManifest.Shard(shard.file(), shard.layout().fileBytes(), header.length,
                    (int) headerChecksum.getValue(), work.checksums(i)));
        }
        disk.beforeChange(manifestFile());
        DurableFiles.write(manifestFile(), new ShardManifest(tool(), work.plan.source(), shards).encode());
        disk.beforeChange(journalFile());
        Files.deleteIfExists(journalFile());
    }

    private static String tool() {
        String version = Splitter.class.getPackage().getImplementationVersion();
        return version == null ? "lamina" : "lamina " + version;
    }

    private List<Path> filesToCopy() throws IOException {
        List<Path> files = new ArrayList<>();
        try (Stream<Path> entries = Files.list(model)) {
            for (Path file : (Iterable<Path>) entries.sorted()::iterator) {
                String name = file.getFileName().toString();
                String extension = name.substring(name.lastIndexOf('.') + 1).toLowerCase(Locale.ROOT);
                boolean wanted = COPIED_EXTENSIONS.contains(extension)
                        || COPIED_PREFIXES.stream().anyMatch(name.toUpperCase(Locale.ROOT)::startsWith);
                boolean index = name.endsWith(".index.json") || name.startsWith(ShardManifest.FILE_NAME);
                if (wanted && !index && !name.startsWith(".") && Files.isRegularFile(file)
                        && Files.size(file) <= MAX_COPIED_FILE_BYTES) {
                    files.add(file);
                }
            }
        }
        return files;
    }

    private void copySmall(Path file) throws IOException {
        Path target = out.resolve(file.getFileName().toString());
        Path temporary = DurableFiles.partial(target);
        disk.beforeChange(target);
        try (FileChannel from = FileChannel.open(file, StandardOpenOption.READ);
                FileChannel to = FileChannel.open(temporary, StandardOpenOption.CREATE,
                        StandardOpenOption.TRUNCATE_EXISTING, StandardOpenOption.WRITE)) {
            to.transferFrom(from, 0, MAX_COPIED_FILE_BYTES);
            to.force(true);
        } catch (IOException e) {
            Files.deleteIfExists(temporary);
            throw e;
        }
        DurableFiles.publish(temporary, target);
    }

    /** Removes after a failure what the next run could not use. */
    private void cleanUp(Work work, Exception failure) {
        try {
            boolean useful = false;
            for (int shard = 0; shard < work.plan.shards().size(); shard++) {
                if (work.isRemovable(shard)) {
                    Files.deleteIfExists(DurableFiles.partial(work.target(shard)));
                } else {
                    useful = true;
                }
            }
            if (!useful) {
                Files.deleteIfExists(journalFile());
                for (Path folder : createdFolders) {
                    Files.deleteIfExists(folder);
                }
            }
        } catch (IOException e) {
            failure.addSuppressed(e);
        }
    }

    // ---- a set that is complete

    private SplitResult complete() throws IOException {
        Checkpoint set = Checkpoint.open(out);
        ShardManifest manifest = Objects.requireNonNull(set.manifest());
        original.checkSame(manifest.source(), set.tensors(), out);
        Files.deleteIfExists(journalFile());
        if (options.deleteOriginal()) {
            for (ShardManifest.SourceFile source : manifest.source().files()) {
                Path file = model.resolve(source.name());
                if (Files.exists(file)) {
                    compare(SafetensorsHeader.read(file), set);
                }
                if (Files.exists(file, LinkOption.NOFOLLOW_LINKS)) {
                    delete(file);
                }
            }
        }
        return new SplitResult(out, true, 0, List.copyOf(freed), List.copyOf(kept));
    }

    /** Makes sure that all tensors of a file are in a shard set, bit by bit. */
    private void compare(SafetensorsHeader header, Checkpoint set) throws IOException {
        Progress progress = new Progress(SplitListener.Phase.VERIFY, header.fileBytes() - header.headerBytes());
        ByteBuffer expected = ByteBuffer.allocateDirect(BUFFER_BYTES);
        try (FileChannel source = FileChannel.open(header.file(), StandardOpenOption.READ)) {
            for (Tensor tensor : header.tensors()) {
                Tensor copy = set.tensor(tensor.name());
                try (UncachedFile shard = UncachedFile.open(copy.file())) {
                    for (long at = 0; at < tensor.bytes(); at += BUFFER_BYTES) {
                        int wanted = (int) Math.min(BUFFER_BYTES, tensor.bytes() - at);
                        expected.clear().limit(wanted);
                        while (expected.hasRemaining()
                                && source.read(expected, tensor.offset() + at + expected.position()) >= 0) {
                            continue;
                        }
                        shard.read(buffer, copy.offset() + at, wanted);
                        if (!expected.flip().equals(buffer)) {
                            throw new LaminaException(copy.file() + " differs from " + tensor.file() + " in tensor "
                                    + FileErrors.quote(tensor.name()) + "; the original was kept: delete " + out
                                    + " and split again");
                        }
                        progress.add(wanted);
                    }
                }
            }
        }
    }
}
