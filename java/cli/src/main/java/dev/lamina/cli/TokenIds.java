package dev.lamina.cli;

import java.util.Arrays;
import java.util.List;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/**
 * Token ids as an option takes them: {@code 1,2,3}.
 *
 * @param ids at least one
 */
record TokenIds(List<Integer> ids) {
    /** Reads them. */
    static final class Converter implements ITypeConverter<TokenIds> {
        @Override
        public TokenIds convert(String text) {
            try {
                var words = Arrays.stream(text.split(",", -1));
                return new TokenIds(words.map(String::strip).map(Integer::valueOf).toList());
            } catch (NumberFormatException e) {
                throw new TypeConversionException("'" + text + "' is no list of token ids such as 1,2,3");
            }
        }
    }

    int[] toArray() {
        return ids.stream().mapToInt(Integer::intValue).toArray();
    }
}
