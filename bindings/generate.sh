#!/usr/bin/env bash
# Writes the bindings in src/main/java/dev/lamina/bindings anew from native/include/lamina.h.
# Needs jextract (https://github.com/openjdk/jextract) on the PATH, or its path in JEXTRACT. Run it after each change of the
# header; BindingsTest fails until then.
set -euo pipefail
cd "$(dirname "$0")"
jextract=${JEXTRACT:-jextract}
header=../native/include/lamina.h
package=dev.lamina.bindings
output=src/main/java
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The filter: what the header itself defines (names that begin with lm_ or LM_), and nothing that it includes.
"$jextract" --dump-includes "$work/all" "$header"
grep -E '^--include-[a-z]+ (lm_|LM_)' "$work/all" | grep -v -E ' LM_API ' | sed 's/ *#.*//' > "$work/ours"

rm -f "$output/${package//.//}"/lm_*.java "$output/${package//.//}"/lamina_h*.java
"$jextract" --output "$output" --target-package "$package" "@$work/ours" "$header"

# Release 22 has no SymbolLookup.findOrThrow.
sed -i.bak 's/\.findOrThrow(\([^()]*\))/.find(\1).orElseThrow()/' "$output/${package//.//}"/lamina_h*.java
rm -f "$output/${package//.//}"/*.bak

