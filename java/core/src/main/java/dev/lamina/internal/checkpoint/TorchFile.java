package dev.lamina.internal.checkpoint;

import dev.lamina.LaminaException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * The checked description of the tensors in a file that {@code torch.save} wrote in PyTorch 1.6 or newer: a zip file
 * with one folder, in it {@code data.pkl} that says which tensors there are, and {@code data/KEY} for each storage that
 * they lie in. Tensors may share a storage. Nothing that the file asks for is executed ({@link TensorPickle}).
 *
 * @param file the file
 * @param fileBytes size of the file
 * @param tensors all tensors in the order of their offsets
 * @param rest what the file holds beside tensors of the model, for people; null if nothing
 * @param entries all that the zip file stores
 */
public record TorchFile(Path file, long fileBytes, List<Tensor> tensors, @Nullable String rest,
        List<StoredEntry> entries)
        implements WeightFile {
    private static final String PICKLE = "/data.pkl";
    private static final List<String> WRAPPERS = List.of("state_dict", "model", "module");

    /**
     * Reads and checks what describes the tensors.
     *
     * @throws LaminaException if the file is not sound, or holds something other than a dictionary of tensors
     * @throws IOException if it cannot be read
     */
    static TorchFile read(Path file) throws IOException {
        FileErrors.checkFile(file);
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            return new Reader(file, channel).read();
        }
    }

    private static final class Reader {
        private static final Comparator<Tensor> BY_OFFSET =
                Comparator.comparingLong(Tensor::offset).thenComparingLong(Tensor::bytes);

        private final Path file;
        private final FileChannel channel;
        private @Nullable String rest;

        Reader(Path file, FileChannel channel) {
            this.file = file;
            this.channel = channel;
        }

        TorchFile read() throws IOException {
            checkKind();
            Map<String, StoredEntry> entries = ZipDirectory.read(file, channel);
            String folder = folder(entries.keySet());
            checkByteOrder(entries.get(folder + "/byteorder"));
            TensorPickle.Dict weights = weights(pickle(entries.get(folder + PICKLE)));
            if (weights.otherKeys) {
                throw problem("lists something under what is no name");
            }
            if (weights.items.size() > SafetensorsHeader.MAX_TENSORS) {
                throw problem("lists more than " + SafetensorsHeader.MAX_TENSORS + " tensors");
            }
            List<Tensor> tensors = new ArrayList<>();
            weights.items.forEach((name, value) -> {
                if (isPlain(value)) {
                    noteRest(FileErrors.quote(name));
                } else if (value instanceof TensorPickle.View view) {
                    tensors.add(place(name, view, entries, folder));
                } else {
                    throw other("holds something other than a tensor under " + FileErrors.quote(name));
                }
            });
            tensors.sort(BY_OFFSET);
            return new TorchFile(file, channel.size(), List.copyOf(tensors), rest,
                    List.copyOf(entries.values()));
        }

        /** Tells what other files of PyTorch there are. */
        private void checkKind() throws IOException {
            byte[] start = new byte[(int) Math.min(262, channel.size())];
            ZipDirectory.readBytes(file, channel, 0, start.length).get(start);
            boolean pickle = start.length > 1 && start[0] == (byte) 0x80 && start[1] >= 2 && start[1] <= 5;
            boolean tar = new String(start, StandardCharsets.ISO_8859_1).endsWith("ustar");
            if (pickle || tar) {
                throw new LaminaException(file + " is in the format of PyTorch before 1.6, which is not supported; "
                        + "convert it with a newer PyTorch: torch.save(torch.load(FILE, map_location='cpu'), FILE)");
            }
        }

        private String folder(Iterable<String> names) {
            String folder = null;
            for (String name : names) {
                if (name.indexOf('/') == name.length() - PICKLE.length() && name.endsWith(PICKLE)) {
                    if (folder != null) {
                        throw problem("has two lists of tensors");
                    }
                    folder = name.substring(0, name.length() - PICKLE.length());
                }
            }
            if (folder == null) {
                throw problem("is a zip file without data.pkl, so not one that torch.save wrote");
            }
            return folder;
        }

        private void checkByteOrder(@Nullable StoredEntry order) throws IOException {
            if (order == null) {
                return; // written before PyTorch 2.1, on machines that were little-endian
            }
            ByteBuffer text = ZipDirectory.readBytes(file, channel, order.offset(), (int) Math.min(16, order.bytes()));
            if (!StandardCharsets.ISO_8859_1.decode(text).toString().equals("little")) {
                throw new LaminaException(file + " is not little-endian, which is not supported; save it on another "
                        + "machine");
            }
        }

        private TensorPickle.Value pickle(StoredEntry pickle) throws IOException {
            if (pickle.bytes() > TensorPickle.MAX_BYTES) {
                throw problem("has a list of tensors of " + pickle.bytes() + " bytes (the limit is "
                        + TensorPickle.MAX_BYTES + ")");
            }
            return TensorPickle.read(file,
                    ZipDirectory.readBytes(file, channel, pickle.offset(), (int) pickle.bytes()));
        }

        /** Returns the dictionary that the tensors are in: all of the file, or what trainers call the weights in it. */
        private TensorPickle.Dict weights(TensorPickle.Value top) {
            if (!(top instanceof TensorPickle.Dict dict)) {
                throw other("holds no dictionary of tensors");
            }
            if (dict.items.values().stream().noneMatch(TensorPickle.View.class::isInstance)) {
                for (String wrapper : WRAPPERS) {
                    if (dict.items.get(wrapper) instanceof TensorPickle.Dict inner) {
                        dict.items.keySet().stream().filter(name -> !name.equals(wrapper))
                                .forEach(name -> noteRest(FileErrors.quote(name)));
                        if (dict.otherKeys) {
                            noteRest("something without a name");
                        }
                        return inner;
                    }
                }
            }
            return dict;
        }

        /** Whether a value is a number, a text or the like: trainers leave some among the tensors. */
        private static boolean isPlain(TensorPickle.Value value) {
            return switch (value) {
                case TensorPickle.Text text -> true;
                case TensorPickle.Whole number -> true;
                case TensorPickle.Other other -> other != TensorPickle.Other.LIST;
                default -> false;
            };
        }

        private void noteRest(String what) {
            rest = rest == null ? what : rest;
        }

        private Tensor place(String name, TensorPickle.View view, Map<String, StoredEntry> entries, String folder) {
            if (name.equals("__metadata__")) {
                throw problem(name, "has a name that no tensor can have");
            }
            TensorPickle.Storage storage = view.storage();
            StoredEntry entry = entries.get(folder + "/data/" + storage.key());
            if (entry == null) {
                throw problem(name, "is in the storage " + FileErrors.quote(storage.key()) + ", which is not there");
            }
            // the last bytes of a storage may be less than an element
            int elementBytes = storage.dtype() == null ? 1 : storage.dtype().bytes();
            if (entry.bytes() / elementBytes * elementBytes != storage.bytes()) {
                throw problem(name, "is in a storage of " + storage.bytes() + " bytes, of which the file holds "
                        + entry.bytes());
            }
            try {
                long bytes = bytes(name, view);
                long offset = Math.multiplyExact(view.offset(), view.dtype().bytes());
                if (offset < 0 || offset > storage.bytes() - bytes) {
                    throw problem(name, "has " + bytes + " bytes from byte " + offset + " on in a storage of "
                            + storage.bytes());
                }
                return new Tensor(name, view.dtype(), view.shape(), file, entry.offset() + offset, bytes);
            } catch (ArithmeticException e) {
                throw problem(name, "has the shape " + view.shape() + " from element " + view.offset()
                        + " on, which is too large");
            }
        }

        /** Returns the size of a tensor, the elements of which must lie one right after the other. */
        private long bytes(String name, TensorPickle.View view) {
            List<Long> shape = view.shape();
            long bytes = view.dtype().bytes();
            for (long dimension : shape) {
                if (dimension < 0) {
                    throw problem(name, "has the shape " + shape);
                }
                bytes = Math.multiplyExact(bytes, dimension);
            }
            long stride = 1;
            for (int i = shape.size() - 1; i >= 0 && bytes > 0; i--) {
                if (shape.get(i) != 1 && view.strides().get(i) != stride) {
                    throw new LaminaException(file + " holds tensor " + FileErrors.quote(name) + " in another order "
                            + "than row by row (shape " + shape + ", strides " + view.strides()
                            + "), which is not supported; save tensor.contiguous() instead");
                }
                stride *= shape.get(i);
            }
            return bytes;
        }

        private LaminaException other(String what) {
            return new LaminaException(file + " " + what + "; save the weights alone: "
                    + "torch.save(model.state_dict(), ...)");
        }

        private LaminaException problem(String tensor, String what) {
            return problem("is not sound: tensor " + FileErrors.quote(tensor) + " " + what);
        }

        private LaminaException problem(String what) {
            return new LaminaException(file + " " + what + "; download the file again");
        }
    }
}
