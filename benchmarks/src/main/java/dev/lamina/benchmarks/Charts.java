package dev.lamina.benchmarks;

import dev.lamina.ModelOptions;
import java.awt.BasicStroke;
import java.awt.Color;
import java.awt.Dimension;
import java.awt.Graphics2D;
import java.awt.Rectangle;
import java.awt.geom.Ellipse2D;
import java.awt.geom.Rectangle2D;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.text.DecimalFormat;
import java.text.DecimalFormatSymbols;
import java.text.NumberFormat;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.DoubleUnaryOperator;
import java.util.function.ToDoubleFunction;
import java.util.stream.Collectors;
import javax.xml.parsers.DocumentBuilderFactory;
import javax.xml.parsers.ParserConfigurationException;
import org.apache.batik.svggen.SVGGraphics2D;
import org.jfree.chart.JFreeChart;
import org.jfree.chart.StandardChartTheme;
import org.jfree.chart.axis.AxisState;
import org.jfree.chart.axis.LogAxis;
import org.jfree.chart.axis.NumberAxis;
import org.jfree.chart.axis.NumberTick;
import org.jfree.chart.axis.NumberTickUnit;
import org.jfree.chart.axis.ValueAxis;
import org.jfree.chart.block.BlockBorder;
import org.jfree.chart.plot.XYPlot;
import org.jfree.chart.renderer.xy.XYLineAndShapeRenderer;
import org.jfree.chart.text.TextUtils;
import org.jfree.chart.ui.RectangleEdge;
import org.jfree.chart.ui.RectangleInsets;
import org.jfree.chart.ui.TextAnchor;
import org.jfree.data.xy.XYSeries;
import org.jfree.data.xy.XYSeriesCollection;

/**
 * Draws what JMH measured, as SVG files, with the line that theory allows in the same picture.
 *
 * <pre>java -cp 'benchmarks/target/lamina-benchmarks.jar:benchmarks/target/lib/*'
 *     dev.lamina.benchmarks.Charts RESULTS.json FOLDER</pre>
 */
public final class Charts {
    private static final int WIDTH = 900;
    private static final int HEIGHT = 600;
    private static final int POINTS = 60; // of a theoretical line
    private static final double PADDING = 8;
    private static final double ALIKE = 0.05; // lines closer than that are one
    private static final double MARGIN = 1.3; // how far a line goes beyond the outermost points

    /** Colours that people with any kind of sight can tell apart (Okabe and Ito). */
    private static final List<Color> COLOURS = List.of(new Color(0x0072B2), new Color(0xD55E00), new Color(0x009E73),
            new Color(0xCC79A7), new Color(0xE69F00), new Color(0x56B4E9), Color.BLACK);

    private static final BasicStroke SOLID = new BasicStroke(2);
    private static final BasicStroke DASHED =
            new BasicStroke(1.5f, BasicStroke.CAP_BUTT, BasicStroke.JOIN_ROUND, 1, new float[] {6, 4}, 0);

    private final List<JmhResult> results;
    private final Path folder;
    private final List<Path> drawn = new ArrayList<>();

    private Charts(List<JmhResult> results, Path folder) {
        this.results = results;
        this.folder = folder;
    }

    /** Draws all that a file of results has figures for. */
    public static void main(String[] arguments) throws IOException {
        if (arguments.length != 2) {
            System.err.println("Charts RESULTS.json FOLDER");
            System.exit(2);
        }
        var drawn = draw(Path.of(arguments[0]), Path.of(arguments[1]));
        drawn.forEach(System.out::println);
        if (drawn.isEmpty()) {
            System.err.println(arguments[0] + " has no results of Sweep or DirectRead");
            System.exit(1);
        }
    }

    /** Draws all that a file of results has figures for. Returns the files. */
    static List<Path> draw(Path results, Path folder) throws IOException {
        System.setProperty("java.awt.headless", "true");
        TextUtils.setUseDrawRotatedStringWorkaround(false); // or the title of a vertical axis is not text in the SVG
        var charts = new Charts(JmhResult.read(results), Files.createDirectories(folder));
        charts.tokensByRate();
        charts.tokensByResidentShare();
        charts.readRate();
        return charts.drawn;
    }

    private List<JmhResult> of(String benchmark) {
        return results.stream().filter(result -> result.benchmark().equals(benchmark)).toList();
    }

    // ---- Sweep

    private static double residentShare(JmhResult sweep) {
        return 1 - sweep.figure("gigabytesRead") / sweep.figure("gigabytesUsed");
    }

    private static double gigabytesOfSweep(JmhResult sweep) {
        return sweep.figure("gigabytesUsed") / sweep.score();
    }

    private static double rowsOf(JmhResult sweep) {
        return sweep.figure("tokens") / sweep.score();
    }

    private void tokensByRate() throws IOException {
        // Where nothing is read the rate of the drive has no say.
        var sweeps = of("Sweep.decode").stream().filter(sweep -> sweep.figure("gigabytesRead") > 0).toList();
        if (sweeps.isEmpty()) {
            return;
        }
        var picture = new Picture("Tokens a second against the rate of the drive",
                decades("rate of the drive, or limit, GB/s"), decades("tokens/s"));
        for (var series : series(sweeps, Set.of("limit")).entrySet()) {
            picture.points(series.getKey(), series.getValue(), sweep -> sweep.figure("gigabytesRaw"),
                    sweep -> sweep.figure("tokens"), false);
        }
        double from = extreme(sweeps, "gigabytesRaw", false) / MARGIN;
        double to = extreme(sweeps, "gigabytesRaw", true) * MARGIN;
        for (var sweep : sweeps) {
            double tokensForGigabyte = sweep.figure("tokens") / sweep.figure("gigabytesRead");
            picture.theory(tokensForGigabyte, String.format(Locale.ROOT, "theory: rate / %.3g GB a token",
                    1 / tokensForGigabyte), from, to, rate -> tokensForGigabyte * rate);
        }
        save(picture, "tokens-by-rate.svg");
    }

    private void tokensByResidentShare() throws IOException {
        var sweeps = of("Sweep.decode");
        if (sweeps.isEmpty()) {
            return;
        }
        var picture = new Picture("Tokens a second against the share of the weights in memory",
                shareAxis(), decades("tokens/s"));
        var series = series(sweeps, Set.of("resident", "memory"));
        series.forEach((name, group) -> picture.points(name, group, Charts::residentShare,
                sweep -> sweep.figure("tokens"), false));
        double top = extreme(sweeps, "tokens", true) * MARGIN;
        for (var group : series.values()) {
            // What is all resident says nothing of the rate; of the others, each has measured the drive again.
            var streamed = group.stream().filter(sweep -> residentShare(sweep) < 1).toList();
            if (streamed.isEmpty()) {
                continue;
            }
            double rate = Medians.of(streamed.stream().map(sweep -> sweep.figure("gigabytesRaw")).toList());
            double bytes = gigabytesOfSweep(streamed.getFirst());
            double empty = rowsOf(streamed.getFirst()) * rate / bytes; // tokens/s with nothing in memory
            double share = streamed.stream().mapToDouble(Charts::residentShare).max().orElseThrow();
            double end = Math.max(share, 1 - empty / top); // beyond it the line leaves the picture
            picture.theory(empty, String.format(Locale.ROOT, "theory: %.3g GB/s / (%.3g GB - resident)", rate, bytes),
                    0, end, x -> empty / (1 - x));
        }
        save(picture, "tokens-by-resident-share.svg");
    }

    private static NumberAxis shareAxis() {
        var axis = new NumberAxis("share of the weights in memory");
        axis.setRange(-0.02, 1.02);
        axis.setTickUnit(new NumberTickUnit(0.1, number()));
        return axis;
    }

    private static double extreme(List<JmhResult> results, String figure, boolean largest) {
        var statistics = results.stream().mapToDouble(result -> result.figure(figure)).summaryStatistics();
        return largest ? statistics.getMax() : statistics.getMin();
    }

    // ---- DirectRead

    private void readRate() throws IOException {
        var reads = of("DirectRead.read");
        if (reads.isEmpty()) {
            return;
        }
        var picture = new Picture("Rate of a drive against the size of a read",
                new StepAxis("size of a read, MiB", 2, 1), new NumberAxis("GB/s"));
        for (var series : series(reads, Set.of("chunk")).entrySet()) {
            picture.points(series.getKey(), series.getValue(),
                    read -> ModelOptions.parseSize(read.parameters().getOrDefault("chunk", "")) / 0x1p20,
                    JmhResult::score, true);
        }
        save(picture, "read-rate.svg");
    }

    // ---- all

    /** Groups results by those parameters that differ between them, but for the ones on the axis. */
    private static Map<String, List<JmhResult>> series(List<JmhResult> results, Set<String> axis) {
        var names = new TreeSet<>(results.getFirst().parameters().keySet());
        names.removeAll(axis);
        names.removeIf(name -> results.stream().map(result -> result.parameters().get(name)).distinct().count() == 1);
        return results.stream().collect(Collectors.groupingBy(
                result -> names.isEmpty() ? "measured" : names.stream()
                        .map(name -> name + " " + result.parameters().get(name)).collect(Collectors.joining(", ")),
                TreeMap::new, Collectors.toList()));
    }

    private static NumberFormat number() {
        return new DecimalFormat("0.###", DecimalFormatSymbols.getInstance(Locale.ROOT));
    }

    private void save(Picture picture, String name) throws IOException {
        var file = folder.resolve(name);
        picture.write(file);
        drawn.add(file);
    }

    private static ValueAxis decades(String title) {
        return new StepAxis(title, 10, 1, 2, 5);
    }

    /** A logarithmic axis with chosen numbers on it, also where it covers less than a power of its base. */
    private static final class StepAxis extends LogAxis {
        private final int[] steps;

        /**
         * Makes an axis.
         *
         * @param steps multiples of the powers of the base that are shown
         */
        StepAxis(String title, int base, int... steps) {
            super(title);
            setBase(base);
            this.steps = steps;
        }

        @Override
        public List<NumberTick> refreshTicks(Graphics2D graphics, AxisState state, Rectangle2D area,
                RectangleEdge edge) {
            var anchor = RectangleEdge.isTopOrBottom(edge) ? TextAnchor.TOP_CENTER : TextAnchor.CENTER_RIGHT;
            var ticks = new ArrayList<NumberTick>();
            int last = (int) Math.floor(calculateLog(getRange().getUpperBound()));
            for (int power = (int) Math.floor(calculateLog(getRange().getLowerBound())); power <= last; power++) {
                for (int step : steps) {
                    double value = step * Math.pow(getBase(), power);
                    if (getRange().contains(value)) {
                        ticks.add(new NumberTick(value, number().format(value), anchor, TextAnchor.CENTER, 0));
                    }
                }
            }
            return ticks;
        }
    }

    /** A chart in the making. */
    private static final class Picture {
        private final XYSeriesCollection data = new XYSeriesCollection();
        private final XYLineAndShapeRenderer renderer = new XYLineAndShapeRenderer();
        private final JFreeChart chart;
        private final List<Double> lines = new ArrayList<>();

        Picture(String title, ValueAxis x, ValueAxis y) {
            var plot = new XYPlot(data, x, y, renderer);
            chart = new JFreeChart(title, plot);
            var theme = (StandardChartTheme) StandardChartTheme.createJFreeTheme();
            theme.setChartBackgroundPaint(Color.WHITE);
            theme.setPlotBackgroundPaint(Color.WHITE);
            theme.setDomainGridlinePaint(Color.LIGHT_GRAY);
            theme.setRangeGridlinePaint(Color.LIGHT_GRAY);
            theme.setExtraLargeFont(theme.getLargeFont());
            theme.apply(chart);
            chart.getLegend().setFrame(BlockBorder.NONE);
            chart.setPadding(new RectangleInsets(PADDING, PADDING, PADDING, PADDING));
            renderer.setDrawSeriesLineAsPath(true); // or dashes begin anew at each point
        }

        /**
         * A series of measured points.
         *
         * @param joined whether by a line, which where theory is a curve would say what was not measured
         */
        void points(String name, List<JmhResult> results, ToDoubleFunction<JmhResult> x,
                ToDoubleFunction<JmhResult> y, boolean joined) {
            var series = new XYSeries(name);
            results.forEach(result -> series.add(x.applyAsDouble(result), y.applyAsDouble(result)));
            int index = add(series, SOLID, COLOURS.get(data.getSeriesCount() % COLOURS.size()));
            renderer.setSeriesLinesVisible(index, joined);
            renderer.setSeriesShape(index, new Ellipse2D.Double(-4, -4, 8, 8));
        }

        /**
         * A line of theory, unless there is one like it already.
         *
         * @param key lines are alike when these are
         */
        void theory(double key, String name, double from, double to, DoubleUnaryOperator line) {
            if (lines.stream().anyMatch(other -> Math.abs(other / key - 1) < ALIKE)) {
                return;
            }
            lines.add(key);
            var series = new XYSeries(name);
            for (int i = 0; i < POINTS; i++) {
                double x = from + (to - from) * i / (POINTS - 1);
                series.add(x, line.applyAsDouble(x));
            }
            renderer.setSeriesShapesVisible(add(series, DASHED, Color.GRAY), false);
        }

        private int add(XYSeries series, BasicStroke stroke, Color colour) {
            int index = data.getSeriesCount();
            data.addSeries(series);
            renderer.setSeriesStroke(index, stroke);
            renderer.setSeriesPaint(index, colour);
            return index;
        }

        void write(Path file) throws IOException {
            try {
                var document = DocumentBuilderFactory.newInstance().newDocumentBuilder().getDOMImplementation()
                        .createDocument("http://www.w3.org/2000/svg", "svg", null);
                var graphics = new SVGGraphics2D(document);
                graphics.setSVGCanvasSize(new Dimension(WIDTH, HEIGHT));
                chart.draw(graphics, new Rectangle(WIDTH, HEIGHT));
                try (var out = Files.newBufferedWriter(file)) {
                    graphics.stream(out, true);
                }
            } catch (ParserConfigurationException e) {
                throw new IllegalStateException(e);
            }
        }
    }
}
