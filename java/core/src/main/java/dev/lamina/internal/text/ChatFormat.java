package dev.lamina.internal.text;

import com.google.gson.JsonObject;
import dev.lamina.LaminaException;
import dev.lamina.Message;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/**
 * How a conversation is written for the families whose repositories say so in Python code and not in a chat template.
 * What was said is encoded as text alone: a special token in it is not recognised. Immutable; for any number of
 * threads.
 */
public final class ChatFormat {
    private static final String SYSTEM = "system";
    private static final String USER = "user";
    private static final String ASSISTANT = "assistant";
    private static final String QWEN_SYSTEM_TEXT = "You are a helpful assistant.";

    /** The vocabulary of the first Baichuan, whose answers end with EOS; that of Baichuan 2 is twice as large. */
    private static final int BAICHUAN1_TOKENS = 64_000;

    private final Family family;
    private final Tokenizer tokenizer;
    private final int userToken;
    private final int assistantToken;
    private final @Nullable Integer eosToken;

    private enum Family { QWEN, CHATGLM2, CHATGLM3, BAICHUAN, INTERNLM }

    private ChatFormat(Family family, Tokenizer tokenizer, JsonObject generation) {
        this.family = family;
        this.tokenizer = tokenizer;
        this.userToken = TokenizerConfig.id(generation, "user_token_id");
        this.assistantToken = TokenizerConfig.id(generation, "assistant_token_id");
        int eos = TokenizerConfig.id(generation, "eos_token_id");
        this.eosToken = eos < 0 || tokenizer.vocabularySize() != BAICHUAN1_TOKENS ? null : Integer.valueOf(eos);
    }

    /**
     * Returns the format of a model, or null if it has to have a chat template. A model that has both is to use its
     * template, unless {@link #replacesTemplate}.
     *
     * @param tokenizer the tokenizer of the model
     * @throws LaminaException if a file is there but cannot be read
     */
    public static @Nullable ChatFormat load(Path modelDirectory, Tokenizer tokenizer) {
        JsonObject generation = generation(modelDirectory);
        Family family = family(modelDirectory, generation);
        return family == null ? null : new ChatFormat(family, tokenizer, generation);
    }

    /** Returns whether {@link #load} would find a format. */
    public static boolean exists(Path modelDirectory) {
        return family(modelDirectory, generation(modelDirectory)) != null;
    }

    private static JsonObject generation(Path modelDirectory) {
        return TokenizerConfig.readObject(modelDirectory.resolve("generation_config.json"));
    }

    private static @Nullable Family family(Path modelDirectory, JsonObject generation) {
        TokenizerConfig config = TokenizerConfig.read(modelDirectory);
        return switch (config.tokenizerClass()) {
            // A base model has "raw" here.
            case "QWenTokenizer" -> TokenizerConfig.text(generation, "chat_format").equals("raw") ? null : Family.QWEN;
            case TokenizerParts.CHATGLM -> isChatGlm3(modelDirectory, config) ? Family.CHATGLM3 : Family.CHATGLM2;
            case "BaichuanTokenizer", "BaiChuanTokenizer" -> TokenizerConfig.id(generation, "user_token_id") < 0
                    || TokenizerConfig.id(generation, "assistant_token_id") < 0 ? null : Family.BAICHUAN;
            case "InternLMTokenizer" -> Family.INTERNLM;
            default -> null;
        };
    }

    /**
     * Returns whether the chat template of a model is of no use: where no text is recognised as a special token, none
     * that a template renders is.
     */
    public static boolean replacesTemplate(Path modelDirectory) {
        return TokenizerConfig.read(modelDirectory).tokenizerClass().equals(TokenizerParts.CHATGLM)
                && !Files.isRegularFile(modelDirectory.resolve(Tokenizer.FILE));
    }

    /** Both generations have the same files; they differ in names, and in a template that only the later one has. */
    private static boolean isChatGlm3(Path modelDirectory, TokenizerConfig config) {
        JsonObject model = TokenizerConfig.readObject(modelDirectory.resolve("config.json"));
        return !config.chatTemplates().isEmpty() || config.text("name_or_path").contains("chatglm3")
                || TokenizerConfig.text(model, "_name_or_path").contains("chatglm3");
    }

    /** Tokens that end an answer in a conversation, beside those that the configuration names. */
    public Set<Integer> stopTokens() {
        Set<Integer> tokens = new TreeSet<>();
        List<String> names = switch (family) {
            case QWEN -> List.of("<|im_end|>", "<|im_start|>");
            case CHATGLM3 -> List.of("<|user|>", "<|observation|>");
            case INTERNLM -> List.of("<eoa>");
            case CHATGLM2, BAICHUAN -> List.of();
        };
        names.forEach(name -> tokens.add(token(name)));
        return tokens;
    }

    /**
     * Encodes a conversation.
     *
     * @param addGenerationPrompt whether it ends where the model begins to answer
     * @throws LaminaException if the family has no way to write such a conversation
     */
    public int[] encode(List<Message> messages, boolean addGenerationPrompt) {
        IntStream.Builder ids = IntStream.builder();
        switch (family) {
            case QWEN -> encodeQwen(messages, addGenerationPrompt, ids);
            case CHATGLM2 -> encodeChatGlm2(messages, ids);
            case CHATGLM3 -> encodeChatGlm3(messages, addGenerationPrompt, ids);
            case BAICHUAN -> encodeBaichuan(messages, addGenerationPrompt, ids);
            case INTERNLM -> encodeInternLm(messages, ids);
        }
        return ids.build().toArray();
    }

    private void encodeQwen(List<Message> messages, boolean addGenerationPrompt, IntStream.Builder ids) {
        List<Message> turns = new ArrayList<>(messages);
        if (turns.isEmpty() || !turns.getFirst().role().equals(SYSTEM)) {
            turns.addFirst(Message.system(QWEN_SYSTEM_TEXT));
        }
        for (int i = 0; i < turns.size(); i++) {
            if (i > 0) {
                text("\n", ids);
            }
            ids.add(token("<|im_start|>"));
            text(turns.get(i).role(), ids);
            text("\n", ids);
            text(turns.get(i).content(), ids);
            ids.add(token("<|im_end|>"));
        }
        if (addGenerationPrompt) {
            text("\n", ids);
            ids.add(token("<|im_start|>"));
            text(ASSISTANT, ids);
            text("\n", ids);
        }
    }

    private void encodeChatGlm2(List<Message> messages, IntStream.Builder ids) {
        StringBuilder prompt = new StringBuilder();
        for (int i = 0; i < messages.size(); i++) {
            String content = messages.get(i).content();
            if (isQuestion(messages, i)) {
                prompt.append("[Round ").append(i / 2 + 1).append("]\n\n问：").append(content).append("\n\n答：");
            } else {
                prompt.append(content).append("\n\n");
            }
        }
        startChatGlm(ids);
        text(prompt.toString(), ids);
    }

    private void encodeChatGlm3(List<Message> messages, boolean addGenerationPrompt, IntStream.Builder ids) {
        startChatGlm(ids);
        for (Message message : messages) {
            if (!List.of(SYSTEM, USER, ASSISTANT, "observation").contains(message.role())) {
                throw refusal("there is no role " + TextFiles.quote(message.role()));
            }
            ids.add(token("<|" + message.role() + "|>"));
            text("\n", ids);
            text(message.content(), ids);
        }
        if (addGenerationPrompt) {
            ids.add(token("<|assistant|>"));
        }
    }

    private void startChatGlm(IntStream.Builder ids) {
        ids.add(token("[gMASK]"));
        ids.add(token("sop"));
    }

    private void encodeBaichuan(List<Message> messages, boolean addGenerationPrompt, IntStream.Builder ids) {
        for (int i = 0; i < messages.size(); i++) {
            Message message = messages.get(i);
            boolean assistant = message.role().equals(ASSISTANT);
            if (assistant || message.role().equals(USER)) {
                ids.add(assistant ? assistantToken : userToken);
            } else if (i > 0 || !message.role().equals(SYSTEM)) {
                throw refusal("there is no role " + TextFiles.quote(message.role()) + " there");
            }
            text(message.content(), ids);
            if (assistant && eosToken != null) {
                ids.add(eosToken);
            }
        }
        if (addGenerationPrompt) {
            ids.add(assistantToken);
        }
    }

    private void encodeInternLm(List<Message> messages, IntStream.Builder ids) {
        if (tokenizer.addsBos() && tokenizer.bosId() != null) {
            ids.add(tokenizer.bosId());
        }
        StringBuilder prompt = new StringBuilder();
        for (int i = 0; i < messages.size(); i++) {
            String content = messages.get(i).content();
            if (isQuestion(messages, i)) {
                prompt.append("<|User|>:").append(content).append("<eoh>\n<|Bot|>:");
            } else {
                prompt.append(content).append("<eoa>\n");
            }
        }
        text(prompt.toString(), ids);
    }

    /** Returns whether a message is the user's: where questions and answers have to take turns. */
    private boolean isQuestion(List<Message> messages, int index) {
        boolean question = index % 2 == 0;
        String role = messages.get(index).role();
        if (!role.equals(question ? USER : ASSISTANT) || index == messages.size() - 1 && !question) {
            throw refusal("user and assistant have to take turns, and the user to begin and to end");
        }
        return question;
    }

    private void text(String text, IntStream.Builder ids) {
        for (int id : tokenizer.encodePlain(text)) {
            ids.add(id);
        }
    }

    private int token(String text) {
        Integer id = tokenizer.tokenId(text);
        if (id == null) {
            throw new LaminaException("the tokenizer has no token " + text
                    + ", which conversations with this model need: pass the prompt as plain text");
        }
        return id;
    }

    private static LaminaException refusal(String why) {
        return new LaminaException("the chat format of this model refuses the conversation: " + why);
    }
}
