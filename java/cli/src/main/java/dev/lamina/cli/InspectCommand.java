package dev.lamina.cli;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.MemoryPlan;
import dev.lamina.ModelOptions;
import dev.lamina.internal.checkpoint.Tensor;
import dev.lamina.internal.model.UnusedTensors;
import dev.lamina.internal.shard.Verifier;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** {@code lamina inspect}. */
@Command(
        name = "inspect",
        description = "Says what a model is, checks its files, and plans its memory.",
        footer = {
            "",
            "Examples:",
            "  lamina inspect --model models/Qwen2.5-7B-Instruct",
            "  lamina inspect --model shards/Qwen2.5-7B-Instruct --verify",
            "  lamina inspect --model models/Qwen2.5-7B-Instruct --plan --memory 4GiB --context 2048",
            "  lamina inspect --model models/Qwen2.5-7B-Instruct --plan --device cuda --save-plan qwen.plan",
            "  lamina inspect --shards /nvme0/qwen,/nvme1/qwen --verify"
        })
final class InspectCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Mixin
    private ModelFolder folder;

    @Option(names = "--tensors", description = "List all tensors.")
    private boolean tensors;

    @Option(names = "--verify", description = "Read all of a shard set, or of PyTorch .bin files, and compare it with "
            + "the checksums in it.")
    private boolean verify;

    @Option(names = "--plan", description = "Say what of the memory goes where for one sequence of --context positions "
            + "(default: 4096, or the model's limit), how many bytes each sweep reads, and how fast that is here. The "
            + "options from --memory to --io-limit are for this.")
    private boolean plan;

    @Option(names = "--save-plan", paramLabel = "FILE",
            description = "With --plan: write it to a file, for --use-plan of other commands.")
    private @Nullable Path savePlan;

    @Mixin
    private EngineOptions engine;

    @Option(names = "--json", description = "Print one JSON object.")
    private boolean json;

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        var options = engine.options();
        if (!plan && savePlan != null) {
            throw new ParameterException(spec.commandLine(), "--save-plan needs --plan");
        }
        if (!plan && engine.given()) {
            throw new ParameterException(spec.commandLine(), "--memory, --context and their like need --plan");
        }
        var model = ModelFiles.open(folder.folders());
        var memoryPlan = plan ? plan(model, options) : null;
        var damage = verify ? verify(model) : null;
        main.terminal().print(json ? toJson(model, damage, memoryPlan) + "\n" : toText(model, damage, memoryPlan));
        if (damage != null && !damage.isEmpty()) {
            throw new LaminaException(damage.size() + (damage.size() == 1 ? " file is" : " files are")
                    + " damaged: " + (model.checkpoint().manifest() == null ? "download" : "split")
                    + " the model again");
        }
        return main.terminal().interrupts().exitStatus();
    }

    private MemoryPlan plan(ModelFiles model, ModelOptions options) {
        try (var opened = folder.open(options)) {
            int positions = PlanView.positions(options, model.program().contextLimit());
            var planned = opened.plan(0, positions, opened.measureRates());
            if (savePlan != null) {
                opened.savePlan(savePlan, positions);
            }
            return planned;
        }
    }

    /** The damage of the weights; null where nothing could be compared. */
    private @Nullable List<Verifier.Damage> verify(ModelFiles model) {
        if (!Verifier.hasChecksums(model.checkpoint())) {
            return null;
        }
        var damage = Verifier.verify(model.checkpoint(), new FileProgress(main.terminal()));
        main.terminal().status().clear();
        return damage;
    }

    private String verified(ModelFiles model, @Nullable List<Verifier.Damage> damage) {
        if (damage == null) {
            return "the model is not split and carries no checksums: headers, bounds and shapes were checked, the "
                    + "weights could not be";
        }
        var split = model.checkpoint().manifest() != null;
        return damage.isEmpty()
                ? (split ? "all bytes of " : "all entries of ") + model.checkpoint().files().size()
                        + " files are as they were written"
                : damage.stream()
                        .map(each -> model.name(each.file()) + ": " + each.pieces() + " damaged "
                                + (split ? "MiB" : each.pieces() == 1 ? "entry" : "entries") + " from offset "
                                + each.offset() + " on")
                        .collect(Collectors.joining("; "));
    }

    private String toText(ModelFiles model, @Nullable List<Verifier.Damage> damage, @Nullable MemoryPlan memoryPlan) {
        var lines = new ArrayList<String>();
        var program = model.program();
        var manifest = model.checkpoint().manifest();
        add(lines, "model", model.directory().toString());
        add(lines, "family", program.architecture());
        add(lines, "shape", program.layers() + " layers, width " + program.hidden() + ", " + program.vocabulary()
                + " tokens, context " + program.contextLimit());
        add(lines, "parameters", String.format(Locale.ROOT, "%,d", model.parameters()));
        add(lines, "weights", Units.bytes(model.weightBytes()) + " (" + model.dtypes().entrySet().stream()
                .map(entry -> entry.getKey() + " " + Units.bytes(entry.getValue()))
                .collect(Collectors.joining(", ")) + ")");
        var unused = UnusedTensors.of(program, model.checkpoint());
        if (!unused.isEmpty()) {
            add(lines, "unused", unused.count() + " tensors, " + Units.bytes(unused.bytes()) + ": "
                    + unused.examples());
        }
        add(lines, "one sweep", Units.bytes(model.sweepBytes()));
        add(lines, "KV cache", kvCache(model));
        add(lines, "split", manifest == null
                ? "no; carries " + (Verifier.hasChecksums(model.checkpoint()) ? "" : "no ") + "checksums"
                : "yes, from " + manifest.source().name() + " by " + manifest.tool());
        var folders = model.checkpoint().folders();
        for (int i = 0; i < folders.size() && folders.size() > 1; i++) {
            add(lines, i == 0 ? "folders" : "", folders.get(i) + "  " + Units.bytes(model.folderBytes(i)));
        }
        var files = model.checkpoint().files();
        for (int i = 0; i < files.size(); i++) {
            add(lines, i == 0 ? "files" : "",
                    model.name(files.get(i)) + "  " + Units.bytes(ModelFiles.size(files.get(i))));
        }
        add(lines, "stages", stages(model));
        add(lines, "tokenizer", model.hasTokenizer() ? "yes" : "none (no tokenizer.json or older files)");
        add(lines, "chat", model.chatTemplate());
        add(lines, "end tokens", model.endTokens().isEmpty() ? "none" : model.endTokens().toString());
        if (verify) {
            add(lines, "verified", verified(model, damage));
        }
        if (memoryPlan != null) {
            lines.add("");
            PlanView.lines(memoryPlan).forEach(line -> add(lines, line.getFirst(), line.getLast()));
        }
        if (tensors) {
            for (var tensor : model.checkpoint().tensors()) {
                lines.add(tensor.name() + "  " + tensor.dtype() + " " + tensor.shape() + "  "
                        + Units.bytes(tensor.bytes()) + "  " + tensor.parts().stream()
                                .map(part -> model.name(part.file()) + " at " + part.offset())
                                .collect(Collectors.joining(", ")));
            }
        }
        return String.join("\n", lines) + "\n";
    }

    private static void add(List<String> lines, String name, String value) {
        lines.add(String.format(Locale.ROOT, "%-11s %s", name, value));
    }

    /** Neighbours of the same size are told together. */
    private static String stages(ModelFiles model) {
        var parts = new ArrayList<String>();
        var stages = model.program().stages();
        for (int first = 0; first < stages.size();) {
            long bytes = bytes(model.tensors(stages.get(first)));
            int next = first + 1;
            while (next < stages.size() && bytes(model.tensors(stages.get(next))) == bytes) {
                next++;
            }
            parts.add(stages.get(first).name() + (next - first == 1 ? "" : " to " + stages.get(next - 1).name()) + " "
                    + Units.bytes(bytes) + (next - first == 1 ? "" : " each"));
            first = next;
        }
        return String.join(", ", parts);
    }

    private static long bytes(List<Tensor> tensors) {
        return tensors.stream().mapToLong(Tensor::bytes).sum();
    }

    private static String kvCache(ModelFiles model) {
        var text = Units.memory(model.kvBytesPerToken()) + " a token in f32, half of it in f16";
        if (model.kvBytesBeyondWindows() < model.kvBytesPerToken()) {
            text += "; " + Units.memory(model.kvBytesBeyondWindows()) + " where windows have left it behind";
        }
        return model.stateBytes() == 0 ? text : text + "; and " + Units.memory(model.stateBytes()) + " of states";
    }

    private JsonObject toJson(ModelFiles model, @Nullable List<Verifier.Damage> damage,
            @Nullable MemoryPlan memoryPlan) {
        var program = model.program();
        var manifest = model.checkpoint().manifest();
        var object = new JsonObject();
        object.addProperty("model", model.directory().toString());
        object.addProperty("family", program.architecture());
        object.addProperty("layers", program.layers());
        object.addProperty("width", program.hidden());
        object.addProperty("vocabulary", program.vocabulary());
        object.addProperty("context", program.contextLimit());
        object.addProperty("parameters", model.parameters());
        object.addProperty("weight_bytes", model.weightBytes());
        object.addProperty("unused_bytes", UnusedTensors.of(program, model.checkpoint()).bytes());
        object.addProperty("sweep_bytes", model.sweepBytes());
        object.addProperty("kv_bytes_per_token", model.kvBytesPerToken());
        object.addProperty("kv_bytes_per_token_beyond_windows", model.kvBytesBeyondWindows());
        object.addProperty("state_bytes", model.stateBytes());
        var dtypes = new JsonObject();
        model.dtypes().forEach((dtype, bytes) -> dtypes.addProperty(dtype.name(), bytes));
        object.add("dtype_bytes", dtypes);
        object.addProperty("split", manifest != null);
        object.addProperty("checksums", Verifier.hasChecksums(model.checkpoint()));
        object.addProperty("split_from", manifest == null ? null : manifest.source().name());
        var folders = new JsonArray();
        for (int i = 0; i < model.checkpoint().folders().size(); i++) {
            var entry = new JsonObject();
            entry.addProperty("folder", model.checkpoint().folders().get(i).toString());
            entry.addProperty("bytes", model.folderBytes(i));
            folders.add(entry);
        }
        object.add("folders", folders);
        var files = new JsonArray();
        model.checkpoint().files().forEach(file -> {
            var entry = new JsonObject();
            entry.addProperty("name", model.name(file));
            entry.addProperty("bytes", ModelFiles.size(file));
            files.add(entry);
        });
        object.add("files", files);
        var stages = new JsonArray();
        program.stages().forEach(stage -> {
            var entry = new JsonObject();
            entry.addProperty("name", stage.name());
            entry.addProperty("bytes", bytes(model.tensors(stage)));
            stages.add(entry);
        });
        object.add("stages", stages);
        object.addProperty("tokenizer", model.hasTokenizer());
        object.addProperty("chat_template", model.chatTemplate());
        var endTokens = new JsonArray();
        model.endTokens().forEach(endTokens::add);
        object.add("end_tokens", endTokens);
        if (verify) {
            object.addProperty("verified", damage == null ? null : damage.isEmpty());
            object.addProperty("verification", verified(model, damage));
        }
        if (memoryPlan != null) {
            object.add("plan", PlanView.toJson(memoryPlan));
        }
        if (tensors) {
            object.add("tensors", tensorsToJson(model));
        }
        return object;
    }

    private static JsonArray tensorsToJson(ModelFiles model) {
        var list = new JsonArray();
        for (var tensor : model.checkpoint().tensors()) {
            var shape = new JsonArray();
            tensor.shape().forEach(shape::add);
            var entry = new JsonObject();
            entry.addProperty("name", tensor.name());
            entry.addProperty("dtype", tensor.dtype().name());
            entry.add("shape", shape);
            entry.addProperty("bytes", tensor.bytes());
            var parts = new JsonArray();
            tensor.parts().forEach(part -> {
                var place = new JsonObject();
                place.addProperty("file", model.name(part.file()));
                place.addProperty("offset", part.offset());
                place.addProperty("bytes", part.bytes());
                parts.add(place);
            });
            entry.add("parts", parts);
            list.add(entry);
        }
        return list;
    }
}
