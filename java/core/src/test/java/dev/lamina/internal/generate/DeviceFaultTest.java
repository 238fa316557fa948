package dev.lamina.internal.generate;

import static dev.lamina.internal.generate.EmulatedFaults.INVALID_VALUE;
import static dev.lamina.internal.generate.EmulatedFaults.LAUNCH_FAILURE;
import static dev.lamina.internal.generate.EmulatedFaults.OUT_OF_MEMORY;
import static dev.lamina.internal.generate.EmulatedFaults.UNAVAILABLE;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lamina.FinishReason;
import dev.lamina.GenerationListener;
import dev.lamina.GenerationOptions;
import dev.lamina.LaminaException;
import dev.lamina.LanguageModel;
import dev.lamina.ModelOptions;
import dev.lamina.Prompt;
import dev.lamina.SweepProgress;
import dev.lamina.internal.generate.EmulatedFaults.Call;
import dev.lamina.internal.runtime.Device;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** A GPU that is not there, has too little memory, or is lost in the middle of a sweep. */
class DeviceFaultTest {
    private static final String MODEL = Path.of("src/test/resources/fixtures/qwen2_yarn").toString();
    private static final ModelOptions OPTIONS =
            Emulation.OPTIONS.toBuilder().memory("800KiB").deviceMemory(64 << 20).panel(4096).prefetch(2).build();
    private static final GenerationOptions GREEDY =
            GenerationOptions.builder().maxTokens(4).greedy().ignoreEos(true).build();
    private static final Prompt PROMPT = Prompt.ids(3, 4, 5);
    private static final String DEVICE = "The device cuda-emulated:0 (emulated GPU)";

    private final EmulatedFaults faults = new EmulatedFaults();

    @BeforeAll
    static void needsTheBackend() {
        Emulation.assume();
    }

    @BeforeEach
    void nothingIsWrong() {
        faults.reset();
    }

    @AfterEach
    void everythingWasGivenBack() {
        faults.reset();
        assertGivenBack("at the end");
    }

    private void assertGivenBack(String what) {
        assertEquals(0, faults.used(), what + ": bytes of the device");
        assertEquals(0, faults.pinned(), what + ": page-locked bytes");
        assertEquals(0, faults.handles(), what + ": streams and events");
        assertFalse(Thread.getAllStackTraces().keySet().stream()
                .anyMatch(thread -> thread.getName().startsWith("lamina-")), what + ": threads");
    }

    private static LanguageModel open() {
        return LanguageModel.open(MODEL, OPTIONS);
    }

    private static LaminaException assertOneLine(LaminaException error) {
        assertFalse(error.getMessage().contains("\n"), error.getMessage());
        return error;
    }

    private static void assertMessage(LaminaException error, String begin, String end) {
        var message = assertOneLine(error).getMessage();
        assertTrue(message.startsWith(begin) && message.endsWith(end), message);
    }

    private List<Integer> expected() {
        try (var model = open()) {
            return model.generate(PROMPT, GREEDY).ids();
        }
    }

    /** Does something once, late in the second sweep. */
    private static GenerationListener inTheMiddle(Runnable action) {
        return new GenerationListener() {
            private boolean happened;

            @Override
            public void text(String piece) {}

            @Override
            public void progress(SweepProgress progress) {
                if (!happened && progress.sweep() == 1 && progress.bytesDone() > progress.bytesTotal() / 2) {
                    happened = true;
                    action.run();
                }
            }
        };
    }

    @Test
    void aMissingDriverIsToldWithWhatToDo() {
        faults.driver(0, 2);
        assertMessage(assertThrows(LaminaException.class, DeviceFaultTest::open),
                "The device cuda-emulated cannot be used: lm_device_open: this machine has no NVIDIA driver: ",
                "--device cpu works without it.");
        var error = assertThrows(LaminaException.class, () -> Device.count("cuda-emulated"));
        assertMessage(error, "The device cuda-emulated cannot be used: lm_device_count: this machine has no NVIDIA",
                "--device cpu works without it.");
        faults.driver(12040, 2);
        assertMessage(assertThrows(LaminaException.class, DeviceFaultTest::open),
                "The device cuda-emulated cannot be used: lm_device_open: the NVIDIA driver is one for CUDA 12.4,",
                "--device cpu works without it.");
        faults.driver(13000, 0);
        assertMessage(assertThrows(LaminaException.class, DeviceFaultTest::open),
                "The device cuda-emulated cannot be used: lm_device_open: the NVIDIA driver finds no GPU",
                "--device cpu works without it.");
    }

    @Test
    void aDeviceThatIsLostCannotBeOpened() {
        try (var first = open()) {
            faults.fail(Call.ALLOC, 0, UNAVAILABLE);
            assertThrows(LaminaException.class, () -> first.generate(PROMPT, GREEDY));
            assertMessage(assertThrows(LaminaException.class, DeviceFaultTest::open),
                    "The device cuda-emulated cannot be used: ", "--device cpu works without it.");
        }
    }

    /** Less memory than it takes, then a little more each time, until a call gets all that it needs. */
    @Test
    void tooLittleMemoryIsToldWhereverItEnds() {
        List<Integer> expected = expected();
        long enough = faults.peak();
        int opening = 0;
        int calling = 0;
        for (long memory = 1000; memory < enough; memory += enough / 40) {
            faults.memory(memory);
            LanguageModel model;
            try {
                model = open();
            } catch (LaminaException e) {
                assertMessage(e, DEVICE + ": ", "");
                assertTrue(e.getMessage().contains("bytes of GPU memory"), e.getMessage());
                opening++;
                assertGivenBack(memory + " bytes");
                continue;
            }
            try (model) {
                assertMessage(assertThrows(LaminaException.class, () -> model.generate(PROMPT, GREEDY)),
                        DEVICE + ": ", "");
                calling++;
            }
            assertGivenBack(memory + " bytes");
        }
        assertTrue(opening > 0 && calling > 5, opening + " times while opening, " + calling + " in a call");
        faults.memory(enough);
        assertEquals(expected, expected());
    }

    @Test
    void aLongerContextThatDoesNotFitLeavesTheModelAsItWas() {
        List<Integer> expected = expected();
        var longer = new ArrayList<Integer>();
        for (int i = 0; i < 60; i++) {
            longer.add(3 + i % 50);
        }
        try (var model = open()) {
            assertEquals(expected, model.generate(PROMPT, GREEDY).ids());
            faults.memory(faults.used() + 4000); // the workspace of this call is there
            assertMessage(assertThrows(LaminaException.class, () -> model.generate(new Prompt.Ids(longer), GREEDY)),
                    DEVICE + ": ", "");
            faults.memory(0);
            assertEquals(expected, model.generate(PROMPT, GREEDY).ids());
            assertEquals(4, model.generate(new Prompt.Ids(longer), GREEDY).ids().size());
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {UNAVAILABLE, LAUNCH_FAILURE})
    void aDeviceThatIsLostEndsTheCallAndNothingElse(int error) {
        for (var call : List.of(Call.COPY, Call.LAUNCH, Call.WAIT, Call.RECORD)) {
            try (var model = open()) {
                var lost = assertThrows(LaminaException.class, () ->
                        model.generate(PROMPT, GREEDY, inTheMiddle(() -> faults.fail(call, 2, error))));
                assertMessage(lost, DEVICE + " failed: lm_",
                        ". Restart this process to use it again, or use --device cpu.");
                assertTrue(lost.getMessage().contains(
                        error == UNAVAILABLE ? "busy or unavailable" : "unspecified launch failure"),
                        lost.getMessage());
                assertMessage(assertThrows(LaminaException.class, () -> model.generate(PROMPT, GREEDY)),
                        DEVICE + " failed: ", "or use --device cpu.");
                assertThrows(LaminaException.class, DeviceFaultTest::open);
                try (var cpu = LanguageModel.open(MODEL, OPTIONS.toBuilder().device("cpu").build())) {
                    assertEquals(4, cpu.generate(PROMPT, GREEDY).ids().size());
                }
            }
            assertGivenBack(call.toString());
            faults.reset();
        }
        expected();
    }

    /** Each call fails once, while a model is opened, computes and is closed: of many calls some. */
    @ParameterizedTest
    @EnumSource(Call.class)
    void aCallThatFailsOnceEndsWhatItBelongsToAndNoMore(Call call) {
        List<Integer> expected = expected();
        int failed = 0;
        int transientError = call == Call.ALLOC || call == Call.PIN ? OUT_OF_MEMORY : INVALID_VALUE;
        for (int error : new int[] {transientError, LAUNCH_FAILURE}) {
            for (long after = 0;; after = after * 3 / 2 + 1) {
                faults.reset();
                faults.fail(call, after, error);
                int before = failed;
                try (var model = open()) {
                    try {
                        assertEquals(expected, model.generate(PROMPT, GREEDY).ids());
                    } catch (LaminaException e) {
                        assertOneLine(e);
                        failed++;
                        if (error != LAUNCH_FAILURE) {
                            assertEquals(expected, model.generate(PROMPT, GREEDY).ids());
                        }
                    }
                } catch (LaminaException e) {
                    assertOneLine(e);
                    failed++;
                }
                assertGivenBack(call + " " + after);
                if (failed == before) {
                    break; // it has become more than there are, or the model's end, which nobody is told of
                }
            }
        }
        assertTrue(failed >= 6, failed + " failures");
    }

    @Test
    void aCallIsCancelledAfterAnotherHasFailed() {
        List<Integer> expected = expected();
        try (var model = open()) {
            assertThrows(LaminaException.class, () -> model.generate(PROMPT, GREEDY,
                    inTheMiddle(() -> faults.fail(Call.COPY, 1, INVALID_VALUE))));
            var cancelled = model.generate(PROMPT, GREEDY, inTheMiddle(model::cancel));
            assertEquals(FinishReason.CANCELLED, cancelled.finishReason());
            assertEquals(expected, model.generate(PROMPT, GREEDY).ids());
        }
    }
}
