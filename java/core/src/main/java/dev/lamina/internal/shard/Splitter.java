package dev.lamina.internal.shard;

import dev.lamina.LaminaException;
import dev.lamina.internal.checkpoint.Checkpoint;
import dev.lamina.internal.checkpoint.DurableFiles;
import dev.lamina.internal.checkpoint.FileErrors;
import dev.lamina.internal.checkpoint.ShardManifest;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.checkpoint.WeightFile;
import dev.lamina.internal.runtime.NativeFile;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.DirectoryNotEmptyException;
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
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalLong;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;

/**
 * Makes a shard set from a checkpoint: one safetensors file a stage, tensors in the order of their use, each at a
 * multiple of 4096 bytes. A set over several folders, on as many drives, has rows of each matrix in each of them, in
 * proportion to the rates of the drives.
 *
 * <p>The unit of work is a {@link SplitPlan.Piece}: the tensors that go from one file of the original to one shard.
 * It is copied into a shard under a temporary name, synced, and then noted in the journal of its folder ({@code
 * lamina.manifest.json.partial}), which also holds the plan. So a split that was killed goes on where it was. If the
 * original is to be deleted, pieces are taken file by file of the original and read back from the disk before they
 * are noted, and a file is deleted as soon as all its pieces are, in all folders: there is never more than the model
 * and one of its files. The manifests are written last, and the journals stay until all of them are there.
 */
public final class Splitter {
    private static final int BUFFER_BYTES = 8 << 20;
    /** What is written before it must be on disk. */
    private static final long SYNCED_BYTES = 256L << 20;
    private static final long MAX_COPIED_FILE_BYTES = 64L << 20;
    /** What the file system itself may take for the new files. */
    private static final long SPACE_MARGIN = 1L << 20;

    private static final String NEW = ".new";

    private static final Set<String> COPIED_EXTENSIONS = Set.of("json", "jinja", "model", "tiktoken", "txt", "md");
    private static final List<String> COPIED_PREFIXES = List.of("LICENSE", "LICENCE", "NOTICE", "README", "USE_POLICY");

    /** What tests replace: the free space, and a word before each change of the disk. */
    interface Disk {
        long usableBytes(Path existingFolder) throws IOException;

        /** Returns what folders have in common that share their free space. */
        default Object drive(Path existingFolder) throws IOException {
            return Files.getFileStore(existingFolder);
        }

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
    /** The folders of the set, in the order in which they were named until the plan tells the number of each. */
    private List<Path> outs;
    private final SplitOptions options;
    private final SplitListener listener;
    private final Disk disk;
    private final Original original;
    private final ByteBuffer buffer = UncachedFile.buffer(BUFFER_BYTES);
    private final List<Path> freed = new ArrayList<>();
    private final List<String> kept = new ArrayList<>();
    private final List<Path> createdFolders = new ArrayList<>();
    private List<Long> measured = List.of();
    private final List<String> notes = new ArrayList<>();
    /** What was changed last, to say which of several drives is at fault. */
    private @Nullable Path changing;

    private Splitter(Path model, List<Path> outs, SplitOptions options, SplitListener listener, Disk disk) {
        this.model = model;
        this.outs = outs;
        this.options = options;
        this.listener = listener;
        this.disk = disk;
        this.original = new Original(model);
    }

    /**
     * Splits a checkpoint, or goes on with a split that was interrupted, or finds that it was done already.
     *
     * @param model folder of the checkpoint
     * @param outs folders of the shard set, on a drive each: each absent, empty, or of a set of the same model,
     *     finished or not
     * @param stages gives the stages of the model's program in the order in which they run; not called if the split was
     *     begun before
     * @param options how to split
     * @param listener hears of the progress
     * @throws LaminaException if it is not possible; what has been finished stays and the same call goes on with it
     */
    public static SplitResult split(Path model, List<Path> outs, Function<Checkpoint, List<StageTensors>> stages,
            SplitOptions options, SplitListener listener) {
        return split(model, outs, stages, options, listener, REAL_DISK);
    }

    static SplitResult split(Path model, List<Path> outs, Function<Checkpoint, List<StageTensors>> stages,
            SplitOptions options, SplitListener listener, Disk disk) {
        Splitter splitter = new Splitter(model.toAbsolutePath(), outs.stream().map(Path::toAbsolutePath).toList(),
                options, listener, disk);
        try {
            return splitter.run(stages);
        } catch (IOException e) {
            throw splitter.explain(e);
        } catch (UncheckedIOException e) {
            throw splitter.explain(e.getCause());
        }
    }

    /**
     * Makes sure that a finished shard set was made from a model. Writes nothing.
     *
     * @param model folder of the checkpoint, of which weight files may have been deleted since
     * @param shards all folders of the shard set
     * @throws LaminaException if it was made from another one, or one of the two cannot be read
     */
    public static void checkSameModel(Path model, List<Path> shards) {
        checkModel(model);
        Checkpoint set = Checkpoint.open(shards);
        ShardManifest manifest = set.manifest();
        if (manifest == null) {
            throw new LaminaException(set.directory() + " holds no shard set; name the folders of one");
        }
        Path source = model.toAbsolutePath();
        try {
            new Original(source).checkSame(manifest.source(), set.tensors(), set.directory());
        } catch (IOException e) {
            throw FileErrors.explain("cannot compare " + source + " with " + names(shards), e);
        } catch (UncheckedIOException e) {
            throw FileErrors.explain("cannot compare " + source + " with " + names(shards), e.getCause());
        }
    }

    private static void checkModel(Path model) {
        if (!Files.isDirectory(model)) {
            throw new LaminaException(model + (Files.exists(model) ? " is not a folder" : " does not exist")
                    + "; give the folder of the model");
        }
    }

    private void beforeChange(Path file) throws IOException {
        changing = file;
        disk.beforeChange(file);
    }

    private LaminaException explain(IOException problem) {
        String where = changing == null || outs.size() == 1 ? "" : " (at " + changing + ")";
        return FileErrors.explain("cannot split " + model + " into " + names(outs) + where, problem);
    }

    private static String names(List<Path> folders) {
        return folders.stream().map(Path::toString).collect(Collectors.joining(", "));
    }

    private SplitResult run(Function<Checkpoint, List<StageTensors>> stages) throws IOException {
        checkFolders();
        if (isFinished()) {
            return complete();
        }
        boolean begun = outs.stream().anyMatch(out -> Files.exists(journalFile(out)));
        for (Path out : outs) {
            checkUnused(out);
        }
        SplitPlan fresh = begun ? null : plan(stages);
        createFolders();
        List<SplitJournal> journals = new ArrayList<>();
        try {
            for (Path out : outs) {
                journals.add(SplitJournal.open(journalFile(out), model));
            }
            if (!isFinished()) {
                return run(journals, fresh, stages);
            }
        } catch (IOException | RuntimeException e) {
            removeEmpty(journals, e);
            throw e;
        } finally {
            for (SplitJournal journal : journals) {
                journal.close();
            }
        }
        // another split finished between our look and our lock
        return complete();
    }

    private SplitResult run(List<SplitJournal> opened, @Nullable SplitPlan fresh,
            Function<Checkpoint, List<StageTensors>> stages) throws IOException {
        SplitPlan begun = begunPlan(opened);
        List<SplitJournal> journals = begun == null ? opened : inOrder(opened);
        List<Path> named = outs;
        outs = journals.stream().map(journal -> journal.file().getParent()).toList();
        if (begun != null && !options.rates().isEmpty() && outs.size() > 1
                && !begun.isCutBy(outs.stream().map(out -> options.rates().get(named.indexOf(out))).toList())) {
            notes.add("the split goes on with the cut that it was begun with, which is not that of the given rates; "
                    + "to change it, delete " + names(outs) + " and split again");
        }
        Work work;
        if (fresh != null && begun == null) {
            work = new Work(fresh, journals);
        } else {
            // an earlier run was interrupted, if only before it could store its plan
            if (begun != null) {
                original.checkSame(begun.source(), begun.tensors(), outs.getFirst());
            }
            work = new Work(begun == null ? plan(stages) : begun, journals);
            work.takeUp();
            checkSpace(work.plan, work.done.keySet());
        }
        try {
            for (int folder = 0; folder < outs.size(); folder++) {
                if (journals.get(folder).plan() == null) {
                    beforeChange(journalFile(outs.get(folder)));
                    journals.get(folder).begin(work.plan, folder);
                }
            }
            long copied = work.copy();
            finish(work);
            return new SplitResult(false, copied, measured, List.copyOf(notes), List.copyOf(freed), List.copyOf(kept));
        } catch (IOException | RuntimeException e) {
            cleanUp(work, e);
            throw e;
        }
    }

    /** Returns the plan of a split that was begun in some of the folders; null if none was stored. */
    private @Nullable SplitPlan begunPlan(List<SplitJournal> journals) {
        SplitJournal first = null;
        Map<Integer, Path> folders = new HashMap<>();
        for (SplitJournal journal : journals) {
            SplitPlan plan = journal.plan();
            if (plan == null) {
                continue;
            }
            Path out = journal.file().getParent();
            if (plan.folders() != outs.size()) {
                throw new LaminaException(out + " holds an unfinished split into " + plan.folders() + " folder"
                        + (plan.folders() == 1 ? "" : "s") + ", and " + outs.size()
                        + (outs.size() == 1 ? " is" : " are") + " named; name the same as then");
            }
            if (first != null && !Objects.equals(plan.stripe(0), first.plan().stripe(0))) {
                throw new LaminaException(first.file().getParent() + " and " + out
                        + " hold parts of different splits; name the folders of one split");
            }
            Path other = folders.put(journal.folder(), out);
            if (other != null) {
                throw new LaminaException(other + " and " + out + " hold the same part of a split; "
                        + "name each part once");
            }
            first = first == null ? journal : first;
        }
        return first == null ? null : first.plan();
    }

    /** Returns journals by the number of their folder; those without a plan take the numbers that are left. */
    private static List<SplitJournal> inOrder(List<SplitJournal> journals) {
        SplitJournal[] order = new SplitJournal[journals.size()];
        journals.stream().filter(journal -> journal.plan() != null).forEach(known -> order[known.folder()] = known);
        Iterator<SplitJournal> others = journals.stream().filter(journal -> journal.plan() == null).iterator();
        for (int folder = 0; folder < order.length; folder++) {
            if (order[folder] == null) {
                order[folder] = others.next();
            }
        }
        return List.of(order);
    }

    private static Path manifestFile(Path out) {
        return out.resolve(ShardManifest.FILE_NAME);
    }

    private static Path journalFile(Path out) {
        return DurableFiles.partial(manifestFile(out));
    }

    private boolean isFinished() {
        return outs.stream().allMatch(out -> Files.exists(manifestFile(out)));
    }

    // ---- before anything is written

    private void checkFolders() throws IOException {
        checkModel(model);
        if (outs.isEmpty() || outs.size() > ShardManifest.MAX_STRIPES) {
            throw new LaminaException("a shard set goes to between 1 and " + ShardManifest.MAX_STRIPES
                    + " folders, not " + outs.size() + "; name some");
        }
        Path realModel = model.toRealPath();
        List<Path> real = new ArrayList<>();
        for (Path out : outs) {
            if (Files.exists(out) && !Files.isDirectory(out)) {
                throw new LaminaException(out + " is a file; choose a folder for the shards");
            }
            Path existing = existingAncestor(out);
            Path realOut = existing.toRealPath().resolve(existing.relativize(out)).normalize();
            if (overlap(realOut, realModel)) {
                throw new LaminaException("the shards cannot go to " + out + ", because that is in the model's folder "
                        + "or around it; choose another folder");
            }
            for (int i = 0; i < real.size(); i++) {
                if (overlap(realOut, real.get(i))) {
                    throw new LaminaException(outs.get(i) + " and " + out + (realOut.equals(real.get(i))
                            ? " are the same folder" : " lie in each other") + "; name a folder on each drive");
                }
            }
            real.add(realOut);
        }
        if (!options.rates().isEmpty()
                && (options.rates().size() != outs.size() || options.rates().stream().anyMatch(rate -> rate <= 0))) {
            throw new LaminaException(options.rates().size() + " rates are given for " + outs.size()
                    + " folders; give one above 0 for each folder, or none");
        }
    }

    private static boolean overlap(Path a, Path b) {
        return a.startsWith(b) || b.startsWith(a);
    }

    private static Path existingAncestor(Path out) {
        Path folder = out;
        while (!Files.exists(folder)) {
            folder = folder.getParent();
        }
        return folder;
    }

    /** Refuses a folder that holds neither an unfinished split nor nothing at all. */
    private void checkUnused(Path out) throws IOException {
        if (!Files.exists(out) || Files.exists(journalFile(out))) {
            return;
        }
        if (Files.exists(manifestFile(out))) {
            throw new LaminaException(out + " holds a finished shard set or part of one, and not all of "
                    + names(outs) + " do; name the folders of one split, or choose other folders");
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
        ShardManifest.Source source = original.describe(checkpoint);
        checkDeletable(source);
        SplitPlan plan = SplitPlan.of(checkpoint, source, stages.apply(checkpoint), rates(checkpoint));
        if (plan.shards().stream().mapToInt(SplitPlan.Shard::folder).distinct().count() < outs.size()) {
            throw new LaminaException(model + " is too small to be shared out over " + outs.size()
                    + " folders; name fewer");
        }
        checkSpace(plan, Set.of());
        return plan;
    }

    private List<Long> rates(Checkpoint checkpoint) throws IOException {
        if (outs.size() == 1) {
            return List.of(1L);
        }
        if (!options.rates().isEmpty()) {
            return options.rates();
        }
        checkRoomOfAll(checkpoint);
        List<Long> rates = new ArrayList<>();
        for (Path out : outs) {
            Path folder = existingAncestor(out);
            beforeChange(folder);
            OptionalLong rate = DriveRate.measure(folder, disk.usableBytes(folder));
            if (rate.isEmpty()) {
                notes.add("the drives could not be measured, because " + folder + " has no reads past the page cache: "
                        + "each folder gets an equal share; give rates if that is not right");
                return outs.stream().map(folderOut -> 1L).toList();
            }
            rates.add(rate.getAsLong());
        }
        measured = List.copyOf(rates);
        return measured;
    }

    /**
     * Refuses what cannot fit however it is cut, before anything is written to measure the drives. With deletion of the
     * original there is no telling yet.
     */
    private void checkRoomOfAll(Checkpoint checkpoint) throws IOException {
        long needed = checkpoint.tensors().stream().mapToLong(Tensor::bytes).sum();
        Map<Object, Long> usable = new HashMap<>();
        for (Path out : outs) {
            Path folder = existingAncestor(out);
            usable.put(disk.drive(folder), disk.usableBytes(folder));
        }
        double free = usable.values().stream().mapToDouble(bytes -> bytes).sum();
        if (!options.deleteOriginal() && needed > free) {
            throw new LaminaException("the shards need " + gib(needed) + " of free space in " + names(outs)
                    + ", which have " + gib((long) free) + " together; free " + gib(needed - (long) free)
                    + ", or delete the original on the way (--delete-original)");
        }
    }

    private void checkDeletable(ShardManifest.Source source) throws IOException {
        for (ShardManifest.SourceFile sourceFile : source.files()) {
            Path file = model.resolve(sourceFile.name());
            if (options.deleteOriginal() && Files.exists(file) && original.reasonToKeep(file) == null
                    && !(Files.isWritable(file.getParent()) && Files.isWritable(file.toRealPath().getParent()))) {
                throw new LaminaException("no permission to delete " + file
                        + "; change the permissions of its folder, or split without deleting the original");
            }
        }
    }

    private void checkSpace(SplitPlan plan, Set<SplitPlan.Piece> done) throws IOException {
        Map<Object, Set<Integer>> foldersOfDrive = new LinkedHashMap<>();
        for (int folder = 0; folder < outs.size(); folder++) {
            foldersOfDrive.computeIfAbsent(disk.drive(existingAncestor(outs.get(folder))), drive -> new TreeSet<>())
                    .add(folder);
        }
        for (Set<Integer> folders : foldersOfDrive.values()) {
            Path shown = existingAncestor(outs.get(folders.iterator().next()));
            long needed = spaceNeeded(plan, done, options.deleteOriginal(), folders, shown);
            long usable = disk.usableBytes(shown);
            if (needed > usable) {
                long withDeletion = spaceNeeded(plan, done, true, folders, shown);
                String advice = !options.deleteOriginal() && withDeletion <= usable
                        ? ", or delete the original on the way (--delete-original), which needs " + gib(withDeletion)
                        : "";
                throw new LaminaException("the shards need " + gib(needed) + " of free space in " + shown
                        + ", which has " + gib(usable) + "; free " + gib(needed - usable) + advice);
            }
        }
    }

    private static String gib(long bytes) {
        return bytes < 1L << 30
                ? String.format(Locale.ROOT, "%.1f MiB", Math.ceil(bytes * 10 / (double) (1 << 20)) / 10)
                : String.format(Locale.ROOT, "%.2f GiB", Math.ceil(bytes * 100 / (double) (1 << 30)) / 100);
    }

    /** Returns the most that the split will take on a drive, with some of the folders, beyond what is taken now. */
    private long spaceNeeded(SplitPlan plan, Set<SplitPlan.Piece> done, boolean delete, Set<Integer> folders,
            Path folder) throws IOException {
        long[] bytesOfFile = new long[plan.source().files().size()];
        long chunks = 0;
        long inEach = SPACE_MARGIN + SplitJournal.line(plan.encode(0)).length;
        for (Path file : filesToCopy()) {
            inEach += Files.size(file);
        }
        long taken = inEach * folders.size();
        for (SplitPlan.Shard shard : plan.shards()) {
            if (!folders.contains(shard.folder())) {
                continue;
            }
            taken += shard.layout().fileBytes() - shard.tensors().stream().mapToLong(Tensor::bytes).sum();
            chunks += ShardManifest.chunks(shard.layout().fileBytes());
        }
        // the checksums, in hex, in the journal and in the manifest
        taken += 2 * 8 * chunks;
        for (var piece : plan.pieces().entrySet()) {
            boolean here = folders.contains(plan.shards().get(piece.getKey().shard()).folder());
            if (here && !done.contains(piece.getKey())) {
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
        for (Path out : outs) {
            for (Path folder = out; !Files.exists(folder); folder = folder.getParent()) {
                createdFolders.add(folder);
            }
            beforeChange(out);
            Files.createDirectories(out);
        }
        for (Path folder : createdFolders) { // their names must be on disk before any original is deleted
            DurableFiles.syncDirectory(folder.getParent());
        }
    }

    // ---- copying

    /** The pieces of a plan, and how far they are. */
    private final class Work {
        final SplitPlan plan;
        final List<SplitJournal> journals;
        final Map<SplitPlan.Piece, Long> pieces;
        /** The checksums of the pieces that are safe on disk. */
        final Map<SplitPlan.Piece, int[]> done = new HashMap<>();

        Work(SplitPlan plan, List<SplitJournal> journals) {
            this.plan = plan;
            this.journals = journals;
            this.pieces = plan.pieces();
        }

        Path target(int shard) {
            SplitPlan.Shard planned = plan.shards().get(shard);
            return outs.get(planned.folder()).resolve(planned.file());
        }

        /** Returns the journal that a piece is noted in. */
        SplitJournal journal(SplitPlan.Piece piece) {
            return journals.get(plan.shards().get(piece.shard()).folder());
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
            checkDeletable(plan.source());
            for (int file = 0; file < plan.source().files().size(); file++) {
                checkUnchanged(file);
            }
            long total = pieces.entrySet().stream()
                    .filter(piece -> journal(piece.getKey()).finished().containsKey(piece.getKey()))
                    .mapToLong(Map.Entry::getValue).sum();
            Progress progress = new Progress(SplitListener.Phase.VERIFY, total);
            for (SplitPlan.Piece piece : pieces.keySet()) {
                int[] checksums = journal(piece).finished().get(piece);
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
                    beforeChange(target);
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
            beforeChange(temporary);
            try (FileChannel channel = FileChannel.open(temporary, StandardOpenOption.WRITE)) {
                channel.truncate(end);
            }
        }

        private void checkUnchanged(int file) throws IOException {
            Path source = sourceFile(file);
            List<Tensor> planned = plan.tensors().stream().filter(tensor -> plan.fileOf(tensor) == file).toList();
            if (Files.exists(source)
                    && !new HashSet<>(WeightFile.read(source).tensors()).containsAll(planned)) {
                throw new LaminaException(source + " was changed since the split began; delete " + names(outs)
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
            beforeChange(temporary);
            List<int[]> checksums = new ArrayList<>();
            try (FileChannel source = FileChannel.open(sourceFile(piece.file()), StandardOpenOption.READ);
                    FileChannel target = FileChannel.open(temporary, StandardOpenOption.CREATE,
                            StandardOpenOption.WRITE);
                    NativeFile read = NativeFile.open(sourceFile(piece.file()), false);
                    NativeFile written = NativeFile.open(temporary, false)) {
                DurableFiles.writeFully(target, ByteBuffer.wrap(shard.layout().header()), 0);
                long unsynced = 0;
                for (int i : tensors(piece)) {
                    checksums.add(copy(source, target, piece.shard(), i, progress));
                    // a whole model goes through here: what others have in the page cache should survive it
                    Tensor tensor = shard.tensors().get(i);
                    read.forget(tensor.offset(), tensor.bytes());
                    unsynced += tensor.bytes();
                    if (unsynced >= SYNCED_BYTES) {
                        target.force(false);
                        written.forget(0, 0);
                        unsynced = 0;
                    }
                }
                target.force(true);
                written.forget(0, 0);
            }
            DurableFiles.syncDirectory(temporary.getParent());
            int[] all = checksums.stream().flatMapToInt(Arrays::stream).toArray();
            if (options.deleteOriginal() && !Arrays.equals(all, readBack(piece, temporary, null))) {
                throw new LaminaException(temporary + " reads differently from what was written to it: the disk may be "
                        + "failing; the original of this part was kept");
            }
            SplitJournal journal = journal(piece);
            beforeChange(journal.file());
            journal.finish(piece, all);
            done.put(piece, all);
        }

        private int[] copy(FileChannel source, FileChannel target, int shard, int index, Progress progress)
                throws IOException {
            Tensor tensor = plan.shards().get(shard).tensors().get(index);
            long offset = plan.shards().get(shard).layout().offset(index);
            Checksums.Pieces checksums = new Checksums.Pieces(offset, tensor.bytes());
            for (long at = 0; at < tensor.bytes(); at += buffer.limit()) {
                buffer.clear().limit((int) Math.min(BUFFER_BYTES, tensor.bytes() - at));
                while (buffer.hasRemaining()) {
                    if (source.read(buffer, tensor.offset() + at + buffer.position()) < 0) {
                        throw new IOException(tensor.file() + " became shorter while it was read");
                    }
                }
                checksums.update(buffer.flip());
                beforeChange(target(shard));
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
            beforeChange(target);
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
                    pieces.keySet().stream().filter(piece -> piece.shard() == shard
                            && journal(piece).finished().containsKey(piece)).toList();
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
            beforeChange(source);
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
        List<Path> files = filesToCopy();
        for (Path out : outs) {
            for (Path file : files) {
                copySmall(file, out);
            }
        }
        for (int folder = 0; folder < outs.size(); folder++) {
            Path manifest = manifestFile(outs.get(folder));
            beforeChange(manifest);
            // the usual temporary name is that of the journal, which must outlive a kill here
            Path temporary = manifest.resolveSibling(ShardManifest.FILE_NAME + NEW);
            DurableFiles.write(temporary, new ShardManifest(tool(), work.plan.source(), work.plan.stripe(folder),
                    shards(work, folder)).encode());
            beforeChange(manifest);
            DurableFiles.publish(temporary, manifest);
        }
        // until all manifests are there, the plan is needed
        for (Path out : outs) {
            beforeChange(journalFile(out));
            Files.deleteIfExists(journalFile(out));
        }
    }

    private static List<ShardManifest.Shard> shards(Work work, int folder) {
        List<ShardManifest.Shard> shards = new ArrayList<>();
        for (int i = 0; i < work.plan.shards().size(); i++) {
            SplitPlan.Shard shard = work.plan.shards().get(i);
            if (shard.folder() != folder) {
                continue;
            }
            byte[] header = shard.layout().header();
            CRC32C headerChecksum = new CRC32C();
            headerChecksum.update(header);
            shards.add(new ShardManifest.Shard(shard.file(), shard.layout().fileBytes(), header.length,
                    (int) headerChecksum.getValue(), work.checksums(i)));
        }
        return shards;
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

    private void copySmall(Path file, Path out) throws IOException {
        Path target = out.resolve(file.getFileName().toString());
        Path temporary = DurableFiles.partial(target);
        beforeChange(target);
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
                for (Path out : outs) {
                    Files.deleteIfExists(journalFile(out));
                }
            }
        } catch (IOException e) {
            failure.addSuppressed(e);
        }
    }

    /** Removes after a failure the journals that no plan was stored in, and the folders that this run made for them. */
    private void removeEmpty(List<SplitJournal> journals, Exception failure) {
        // those within others first
        createdFolders.sort(Comparator.comparingInt(Path::getNameCount).reversed());
        try {
            for (SplitJournal journal : journals) {
                if (journal.plan() == null) {
                    Files.deleteIfExists(journal.file());
                }
            }
            for (Path folder : createdFolders) {
                deleteIfEmpty(folder);
            }
        } catch (IOException e) {
            failure.addSuppressed(e);
        }
    }

    private static void deleteIfEmpty(Path folder) throws IOException {
        try {
            Files.deleteIfExists(folder);
        } catch (DirectoryNotEmptyException e) {
            // it holds what the next run goes on with
        }
    }

    // ---- a set that is complete

    private SplitResult complete() throws IOException {
        Checkpoint set = Checkpoint.open(outs);
        ShardManifest manifest = Objects.requireNonNull(set.manifest());
        original.checkSame(manifest.source(), set.tensors(), set.directory());
        for (Path out : outs) {
            Files.deleteIfExists(journalFile(out));
        }
        if (options.deleteOriginal()) {
            for (ShardManifest.SourceFile source : manifest.source().files()) {
                Path file = model.resolve(source.name());
                if (Files.exists(file)) {
                    compare(WeightFile.read(file), set);
                }
                if (Files.exists(file, LinkOption.NOFOLLOW_LINKS)) {
                    delete(file);
                }
            }
        }
        return new SplitResult(true, 0, List.of(), List.of(), List.copyOf(freed), List.copyOf(kept));
    }

    /** Makes sure that all tensors of a file are in a shard set, bit by bit. */
    private void compare(WeightFile weights, Checkpoint set) throws IOException {
        long total = weights.tensors().stream().mapToLong(Tensor::bytes).sum();
        Progress progress = new Progress(SplitListener.Phase.VERIFY, total);
        try (FileChannel source = FileChannel.open(weights.file(), StandardOpenOption.READ)) {
            for (Tensor tensor : weights.tensors()) {
                Tensor copy = set.tensor(tensor.name());
                boolean same = copy.dtype() == tensor.dtype() && copy.shape().equals(tensor.shape());
                long at = 0;
                for (Tensor.Part part : copy.parts()) {
                    if (!same || !isSame(source, tensor.offset() + at, part, progress)) {
                        throw new LaminaException(part.file() + " differs from " + tensor.file() + " in tensor "
                                + FileErrors.quote(tensor.name()) + "; the original was kept: delete " + names(outs)
                                + " and split again");
                    }
                    at += part.bytes();
                }
            }
        }
    }

    /** Compares bytes of the original with a part of a shard. */
    private boolean isSame(FileChannel source, long offset, Tensor.Part part, Progress progress) throws IOException {
        ByteBuffer expected = ByteBuffer.allocateDirect((int) Math.min(BUFFER_BYTES, part.bytes()));
        try (UncachedFile shard = UncachedFile.open(part.file())) {
            for (long at = 0; at < part.bytes(); at += BUFFER_BYTES) {
                int wanted = (int) Math.min(BUFFER_BYTES, part.bytes() - at);
                expected.clear().limit(wanted);
                while (expected.hasRemaining() && source.read(expected, offset + at + expected.position()) >= 0) {
                    continue;
                }
                shard.read(buffer, part.offset() + at, wanted);
                if (!expected.flip().equals(buffer)) {
                    return false;
                }
                progress.add(wanted);
            }
        }
        return true;
    }
}
