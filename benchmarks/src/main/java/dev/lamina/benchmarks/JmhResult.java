package dev.lamina.benchmarks;

import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * One line of what JMH writes with {@code -rf json}.
 *
 * @param benchmark class and method, without the package
 * @param parameters by name
 * @param score the primary figure
 * @param figures the secondary ones, by name
 */
record JmhResult(String benchmark, Map<String, String> parameters, double score, Map<String, Double> figures) {
    /** Reads all results of a file. */
    static List<JmhResult> read(Path file) throws IOException {
        return JsonParser.parseString(Files.readString(file)).getAsJsonArray().asList().stream()
                .map(JmhResult::of)
                .toList();
    }

    private static JmhResult of(JsonElement element) {
        var json = element.getAsJsonObject();
        var name = json.get("benchmark").getAsString();
        var parameters = new TreeMap<String, String>();
        if (json.has("params")) {
            json.getAsJsonObject("params").asMap().forEach((key, value) -> parameters.put(key, value.getAsString()));
        }
        var figures = new TreeMap<String, Double>();
        json.getAsJsonObject("secondaryMetrics").asMap().forEach((key, value) -> figures.put(key, score(value)));
        return new JmhResult(name.substring(name.lastIndexOf('.', name.lastIndexOf('.') - 1) + 1), parameters,
                score(json.get("primaryMetric")), figures);
    }

    /** JMH writes a figure that is no number as text. */
    private static double score(JsonElement metric) {
        return Double.parseDouble(metric.getAsJsonObject().get("score").getAsString());
    }

    /** A secondary figure; NaN where there is none of that name. */
    double figure(String name) {
        return figures.getOrDefault(name, Double.NaN);
    }
}
