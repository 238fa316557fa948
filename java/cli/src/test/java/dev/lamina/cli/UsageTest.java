package dev.lamina.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class UsageTest {
    @Test
    void aloneItShowsItsCommands() {
        var result = Cli.run().succeeded();
        assertTrue(result.out().contains("generate") && result.out().contains("doctor"), result.out());
        assertTrue(Cli.run("--version").succeeded().out().startsWith("lamina "));
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "demo", "generate", "chat", "split", "inspect", "logits", "perplexity", "profile", "doctor"})
    void everyCommandHasHelp(String command) {
        var help = Cli.run(command, "--help").succeeded();
        assertTrue(help.out().startsWith("Usage: lamina " + command), help.out());
        assertEquals("", help.err());
        Cli.run(command, "--no-such-option").wrongUsage("--no-such-option", "Try 'lamina " + command + " --help'");
    }

    @Test
    void wrongUsageIsToldInOneLineAndAHint() {
        Cli.run("no-such-command").wrongUsage("no-such-command");
        Cli.run("generate", "--prompt", "x").wrongUsage("--model");
        Cli.run("generate", "--model", "m").wrongUsage("--prompt", "--ids");
        Cli.run("generate", "--model", "m", "--prompt", "x", "--ids", "1").wrongUsage("--prompt", "--ids");
        Cli.run("generate", "--model", "m", "--prompt").wrongUsage("--prompt");
        Cli.run("generate", "--model", "m", "--ids", "1,a").wrongUsage("1,a");
        Cli.run("generate", "--model", "m", "--ids", "").wrongUsage("token ids");
        Cli.run("generate", "--model", "m", "--ids", "1", "--chat").wrongUsage("--chat");
        Cli.run("generate", "--model", "m", "--prompt", "x", "--system", "y").wrongUsage("--system");
        Cli.run("generate", "--model", "m", "--prompt", "x", "extra").wrongUsage("extra");
        Cli.run("generate", "--model", "m", "--ids", "1", "--host-compute").wrongUsage("--mode fast");
        Cli.run("logits", "--model", "m", "--ids", "1").wrongUsage("--out");
        Cli.run("logits", "--model", "m", "--out", "f").wrongUsage("--ids");
        Cli.run("perplexity", "--model", "m").wrongUsage("--text");
        Cli.run("split", "--model", "m").wrongUsage("--shards");
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "--memory=12XB", "--memory=0", "--memory=-1", "--memory=", "--memory=1e400GiB", "--panel=0", "--panel=2GiB",
        "--threads=0", "--threads=-1", "--threads=99999", "--prefetch=-1", "--prefetch=99999",
        "--context=0", "--context=3000000000",
        "--kv=f64", "--io=maybe", "--max-tokens=-1", "-n=x", "--temperature=-1", "--temperature=NaN", "--top-k=-1",
        "--top-p=0", "--top-p=1.5", "--min-p=2", "--repetition-penalty=0", "--seed=x", "--stop="})
    void valuesAreChecked(String option) {
        Cli.run("generate", "--model", "m", "--prompt", "x", option).wrongUsage();
    }
}
