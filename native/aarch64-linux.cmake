# Builds for AArch64 Linux elsewhere and runs the tests in an emulator (Debian: gcc-aarch64-linux-gnu, qemu-user):
#     cmake -S . -B build/aarch64 -DCMAKE_TOOLCHAIN_FILE=native/aarch64-linux.cmake
#     cmake --build build/aarch64 && ctest --test-dir build/aarch64/native
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
