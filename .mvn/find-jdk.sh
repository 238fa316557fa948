# Finds a JDK 22 or newer and leaves its folder in `jdk`; without one it says so in one line and returns 1.
# Sourced by lamina, mvnw and .ci/run. POSIX sh; it starts no Java, the file `release` of a JDK tells its version.

is_new_jdk() {
    [ -x "$1/bin/javac" ] && [ -r "$1/release" ] || return 1
    while IFS='=' read -r key value; do
        [ "$key" = JAVA_VERSION ] || continue
        value=${value#\"}
        value=${value%%[!0-9]*}
        [ "${value:-0}" -ge 22 ]
        return
    done <"$1/release"
    return 1
}

find_jdk() {
    if [ -n "${LAMINA_JAVA_HOME-}" ]; then
        jdk=$LAMINA_JAVA_HOME
        is_new_jdk "$jdk" && return
        echo "lamina: LAMINA_JAVA_HOME=$jdk is not a JDK 22 or newer: correct it or unset it" >&2
        return 1
    fi
    jdk=${JAVA_HOME-}
    [ -n "$jdk" ] && is_new_jdk "$jdk" && return
    if jdk=$(command -v java); then
        jdk=$(readlink -f "$jdk" 2>/dev/null) || jdk=
        jdk=${jdk%/bin/java}
        is_new_jdk "$jdk" && return
    fi
    for jdk in /usr/lib/jvm/* /usr/java/* "${HOME-}"/.sdkman/candidates/java/* "${HOME-}"/.jdks/* /opt/* /opt/java/* \
        /Library/Java/JavaVirtualMachines/*/Contents/Home \
        /opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home; do
        is_new_jdk "$jdk" && return
    done
    jdk=
    echo "lamina: found no JDK 22 or newer in JAVA_HOME, the java on PATH, /usr/lib/jvm, /usr/java, ~/.sdkman, ~/.jdks," \
        "/opt: install one (Temurin 25, say) or set LAMINA_JAVA_HOME to it" >&2
    return 1
}
