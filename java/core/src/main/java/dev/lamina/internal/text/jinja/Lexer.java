package dev.lamina.internal.text.jinja;

import dev.lamina.internal.text.jinja.Token.Kind;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;

/**
 * Splits a template into tokens as Jinja's lexer does with {@code trim_blocks} and {@code lstrip_blocks} on: the
 * newline after a block tag and the blanks before one at the start of a line are no output.
 */
final class Lexer {
    private static final List<String> OPERATORS = List.of(
            "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<",
            "=", ".", ":", "|", ",", ";");

    private final String source;
    private final List<Token> tokens = new ArrayList<>();
    private int pos;
    private int line = 1;
    private int lineCountedTo;

    private Lexer(String source) {
        this.source = source;
    }

    static List<Token> tokenize(String template) {
        String source = normalizeNewlines(template);
        if (source.endsWith("\n")) {
            source = source.substring(0, source.length() - 1);
        }
        Lexer lexer = new Lexer(source);
        lexer.root();
        return lexer.tokens;
    }

    static String normalizeNewlines(String text) {
        return text.indexOf('\r') < 0 ? text : text.replace("\r\n", "\n").replace('\r', '\n');
    }

    private void root() {
        while (pos < source.length()) {
            int tag = nextTag();
            if (tag < 0) {
                data(source.substring(pos));
                pos = source.length();
                break;
            }
            char type = source.charAt(tag + 1);
            char sign = tag + 2 < source.length() ? source.charAt(tag + 2) : 0;
            boolean signed = sign == '-' || sign == '+';
            data(strip(pos, tag, signed ? sign : 0, type != '{'));
            pos = tag + 2 + (signed ? 1 : 0);
            switch (type) {
                case '#' -> comment();
                case '{' -> {
                    add(Kind.VARIABLE_BEGIN, "{{", tag);
                    code(false);
                }
                default -> {
                    if (!raw()) {
                        add(Kind.BLOCK_BEGIN, "{%", tag);
                        code(true);
                    }
                }
            }
        }
        add(Kind.END, "", source.length());
    }

    private int nextTag() {
        for (int brace = source.indexOf('{', pos); brace >= 0; brace = source.indexOf('{', brace + 1)) {
            if (brace + 1 < source.length() && "%{#".indexOf(source.charAt(brace + 1)) >= 0) {
                return brace;
            }
        }
        return -1;
    }

    /** Returns the text before a tag without the white space that the tag takes away. */
    private String strip(int from, int to, int sign, boolean stripsLine) {
        String text = source.substring(from, to);
        if (sign == '-') {
            return PyString.rstrip(text);
        }
        if (sign != '+' && stripsLine) {
            int start = text.lastIndexOf('\n') + 1;
            boolean lineStarts = start > 0 || from == 0 || source.charAt(from - 1) == '\n';
            if (lineStarts && start < text.length() && PyString.isBlank(text, start)) {
                return text.substring(0, start);
            }
        }
        return text;
    }

    private void data(String text) {
        if (!text.isEmpty()) {
            add(Kind.DATA, text, pos);
        }
    }

    private void comment() {
        int end = source.indexOf("#}", pos);
        if (end < 0) {
            throw new JinjaException("a comment is not closed with '#}'", lineAt(pos));
        }
        char before = end > pos ? source.charAt(end - 1) : 0;
        pos = end + 2;
        afterBlock(before);
    }

    /** Skips what the end of a block or comment takes away, given the character before that end. */
    private void afterBlock(int sign) {
        if (sign == '-') {
            skipSpace();
        } else if (sign != '+' && pos < source.length() && source.charAt(pos) == '\n') {
            pos++;
        }
    }

    private void skipSpace() {
        while (pos < source.length() && PyString.isSpace(source.charAt(pos))) {
            pos++;
        }
    }

    /** Reads a raw block if one begins here, after its opening brace. */
    private boolean raw() {
        int start = pos;
        skipSpace();
        if (!source.startsWith("raw", pos)) {
            pos = start;
            return false;
        }
        pos += 3;
        skipSpace();
        boolean stripped = source.startsWith("-%}", pos);
        if (!stripped && !source.startsWith("%}", pos)) {
            pos = start;
            return false;
        }
        pos += stripped ? 3 : 2;
        if (stripped) {
            skipSpace();
        }
        int body = pos;
        for (int tag = source.indexOf("{%", pos); tag >= 0; tag = source.indexOf("{%", tag + 1)) {
            pos = tag + 2;
            char sign = pos < source.length() ? source.charAt(pos) : 0;
            boolean signed = sign == '-' || sign == '+';
            pos += signed ? 1 : 0;
            skipSpace();
            if (!source.startsWith("endraw", pos)) {
                continue;
            }
            pos += 6;
            skipSpace();
            char endSign = pos < source.length() ? source.charAt(pos) : 0;
            pos += endSign == '-' || endSign == '+' ? 1 : 0;
            if (source.startsWith("%}", pos)) {
                pos += 2;
                int after = pos;
                pos = body;
                data(strip(body, tag, signed ? sign : 0, true));
                pos = after;
                afterBlock(endSign);
                return true;
            }
        }
        throw new JinjaException("a raw block is not closed with '{% endraw %}'", lineAt(start));
    }

    /** Reads the tokens of a tag, up to and with its end. */
    private void code(boolean block) {
        Deque<Character> open = new ArrayDeque<>();
        int begin = pos;
        while (pos < source.length()) {
            if (open.isEmpty() && end(block)) {
                return;
            }
            char c = source.charAt(pos);
            if (PyString.isSpace(c)) {
                pos++;
            } else if (c >= '0' && c <= '9') {
                number();
            } else if (c == '_' || Character.isUnicodeIdentifierStart(source.codePointAt(pos))) {
                name();
            } else if (c == '\'' || c == '"') {
                string(c);
            } else {
                operator(open);
            }
        }
        throw new JinjaException("a tag is not closed with '" + (block ? "%}" : "}}") + "'", lineAt(begin));
    }

    private boolean end(boolean block) {
        String close = block ? "%}" : "}}";
        char c = source.charAt(pos);
        boolean signed = c == '-' || block && c == '+';
        if (!source.startsWith(close, pos + (signed ? 1 : 0))) {
            return false;
        }
        add(block ? Kind.BLOCK_END : Kind.VARIABLE_END, close, pos);
        pos += signed ? 3 : 2;
        if (c == '-') {
            skipSpace();
        } else if (block) {
            afterBlock(c);
        }
        return true;
    }

    private void number() {
        int start = pos;
        digits();
        boolean isFloat = false;
        // After a dot ("items.0.1") digits are positions and not the whole part of a fraction.
        boolean afterDot = start > 0 && source.charAt(start - 1) == '.';
        if (!afterDot) {
            if (peek(0) == '.' && isDigit(peek(1))) {
                pos++;
                digits();
                isFloat = true;
            }
            int exponent = isDigit(peek(1)) ? 1 : (peek(1) == '+' || peek(1) == '-') && isDigit(peek(2)) ? 2 : 0;
            if ((peek(0) == 'e' || peek(0) == 'E') && exponent > 0) {
                pos += exponent;
                digits();
                isFloat = true;
            }
        }
        String text = source.substring(start, pos).replace("_", "");
        if (!isFloat && text.length() > 1 && text.charAt(0) == '0' || Character.isLetter(peek(0))) {
            throw new JinjaException("the number '" + text + peek(0) + "' is not supported", lineAt(start));
        }
        add(isFloat ? Kind.FLOAT : Kind.INTEGER, text, start);
    }

    private void digits() {
        while (isDigit(peek(0)) || peek(0) == '_' && isDigit(peek(1))) {
            pos++;
        }
    }

    private char peek(int ahead) {
        return pos + ahead < source.length() ? source.charAt(pos + ahead) : 0;
    }

    private static boolean isDigit(char c) {
        return c >= '0' && c <= '9';
    }

    private void name() {
        int start = pos;
        while (pos < source.length()
                && (source.charAt(pos) == '_' || isNamePart(source.codePointAt(pos)))) {
            pos += Character.charCount(source.codePointAt(pos));
        }
        add(Kind.NAME, source.substring(start, pos), start);
    }

    private static boolean isNamePart(int c) {
        return Character.isUnicodeIdentifierPart(c) && !Character.isIdentifierIgnorable(c);
    }

    private void string(char quote) {
        int start = pos;
        StringBuilder value = new StringBuilder();
        pos++;
        while (pos < source.length()) {
            char c = source.charAt(pos++);
            if (c == quote) {
                add(Kind.STRING, value.toString(), start);
                return;
            }
            if (c == '\\' && pos < source.length()) {
                escape(value);
            } else {
                value.append(c);
            }
        }
        throw new JinjaException("a string is not closed with " + quote, lineAt(start));
    }

    private void escape(StringBuilder value) {
        char c = source.charAt(pos++);
        switch (c) {
            case '\n' -> { }
            case '\\', '\'', '"' -> value.append(c);
            case 'a' -> value.append('\u0007');
            case 'b' -> value.append('\b');
            case 'f' -> value.append('\f');
            case 'n' -> value.append('\n');
            case 'r' -> value.append('\r');
            case 't' -> value.append('\t');
            case 'v' -> value.append('\u000b');
            case 'x' -> value.appendCodePoint(hex(2));
            case 'u' -> value.appendCodePoint(hex(4));
            case 'U' -> value.appendCodePoint(hex(8));
            case 'N' -> throw new JinjaException("the escape '\\N' is not supported", lineAt(pos));
            case '0', '1', '2', '3', '4', '5', '6', '7' -> {
                int code = c - '0';
                for (int i = 0; i < 2 && peek(0) >= '0' && peek(0) <= '7'; i++) {
                    code = code * 8 + source.charAt(pos++) - '0';
                }
                value.appendCodePoint(code);
            }
            default -> value.append('\\').append(c);
        }
    }

    private int hex(int length) {
        int code = 0;
        for (int i = 0; i < length; i++) {
            int digit = Character.digit(peek(0), 16);
            if (digit < 0 || code > Character.MAX_CODE_POINT >> 4) {
                throw new JinjaException("an escape in a string is not a character", lineAt(pos));
            }
            code = code * 16 + digit;
            pos++;
        }
        if (code > Character.MAX_CODE_POINT) {
            throw new JinjaException("an escape in a string is not a character", lineAt(pos));
        }
        return code;
    }

    private void operator(Deque<Character> open) {
        for (String operator : OPERATORS) {
            if (source.startsWith(operator, pos)) {
                char c = operator.charAt(0);
                int bracket = "([{".indexOf(c);
                if (bracket >= 0) {
                    open.push(")]}".charAt(bracket));
                } else if (")]}".indexOf(c) >= 0 && (open.isEmpty() || open.pop() != c)) {
                    throw new JinjaException("unexpected '" + c + "'", lineAt(pos));
                }
                add(Kind.OPERATOR, operator, pos);
                pos += operator.length();
                return;
            }
        }
        throw new JinjaException(
                "unexpected character '" + Character.toString(source.codePointAt(pos)) + "'", lineAt(pos));
    }

    private void add(Kind kind, String text, int at) {
        tokens.add(new Token(kind, text, lineAt(at)));
    }

    /** Returns the line of a position; positions are asked for in rising order but for error messages. */
    private int lineAt(int position) {
        if (position < lineCountedTo) {
            return line;
        }
        for (; lineCountedTo < position; lineCountedTo++) {
            if (source.charAt(lineCountedTo) == '\n') {
                line++;
            }
        }
        return line;
    }
}
