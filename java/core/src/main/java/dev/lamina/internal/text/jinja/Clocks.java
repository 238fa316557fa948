package dev.lamina.internal.text.jinja;

import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.Locale;

/** The function {@code strftime_now}: the local time in a format of C's {@code strftime}, with English names. */
final class Clocks {
    private Clocks() {}

    static String format(String format, LocalDateTime now) {
        StringBuilder out = new StringBuilder();
        for (int i = 0; i < format.length(); i++) {
            char c = format.charAt(i);
            if (c != '%') {
                out.append(c);
                continue;
            }
            boolean unpadded = format.startsWith("-", i + 1);
            i += unpadded ? 2 : 1;
            char directive = i < format.length() ? format.charAt(i) : 0;
            String text = directive == '%'
                    ? "%"
                    : now.format(DateTimeFormatter.ofPattern(pattern(directive), Locale.ENGLISH));
            out.append(unpadded && text.length() > 1 ? PyString.strip(text, "0", true, false) : text);
        }
        return out.toString();
    }

    private static String pattern(char directive) {
        return switch (directive) {
            case 'Y' -> "uuuu";
            case 'y' -> "uu";
            case 'm' -> "MM";
            case 'd' -> "dd";
            case 'e' -> "ppd";
            case 'H' -> "HH";
            case 'I' -> "hh";
            case 'M' -> "mm";
            case 'S' -> "ss";
            case 'f' -> "SSSSSS";
            case 'p' -> "a";
            case 'j' -> "DDD";
            case 'B' -> "MMMM";
            case 'b', 'h' -> "MMM";
            case 'A' -> "EEEE";
            case 'a' -> "EEE";
            case 'F' -> "uuuu-MM-dd";
            case 'T' -> "HH:mm:ss";
            case 'R' -> "HH:mm";
            case 'D' -> "MM/dd/uu";
            default -> throw new JinjaException("the directive '%" + directive + "' of strftime_now is not supported");
        };
    }
}
