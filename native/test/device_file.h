/* device_file.h: files that are read into memory of a device, the same for all backends. */
#ifndef LAMINA_TEST_DEVICE_FILE_H
#define LAMINA_TEST_DEVICE_FILE_H

#include "test.h"

#include <pthread.h>

enum { FILE_BYTES = 3 * (1 << 20) + 777, DEVICE_BYTES = (1 << 21) + 5, FILE_READERS = 8, FILE_READS = 40 };

typedef struct device_file_test {
    lm_device* device;
    lm_queue* queue;
    uint8_t* content; // (FILE_BYTES)
    char path[64];
    lm_device_file* file;
    uint8_t* memory; // (DEVICE_BYTES) of the device
    uint8_t* seen;   // (DEVICE_BYTES): what is to be in memory
} device_file_test;

typedef struct device_file_reader {
    device_file_test* test;
    pthread_t thread;
    uint64_t seed;
    int64_t from; /* of its own part of the memory */
    int64_t bytes;
} device_file_reader;

/* Reads until all is there, or the file ends; gives how many bytes there were. */
static inline int64_t read_device_file(lm_device_file* file, uint8_t* to, int64_t bytes, int64_t offset) {
    int64_t done = 0;
    int64_t read = -1;
    while (done < bytes && read != 0) {
        MUST(lm_device_file_read(file, to + done, bytes - done, offset + done, &read));
        CHECK(read >= 0 && read <= bytes - done, "%lld of %lld bytes", (long long)read, (long long)(bytes - done));
        done += read;
    }
    return done;
}

/* A range of any kind: odd, whole pages, across the end of the file, behind it. */
static inline void read_some(device_file_test* t, uint64_t* seed, int64_t from, int64_t room) {
    int64_t unit = random_int(seed, 0, 1) ? 1 : 4096;
    int64_t at = from + random_int(seed, 0, (int32_t)(room / unit)) * unit;
    int64_t bytes = random_int(seed, 0, (int32_t)((from + room - at) / unit)) * unit;
    int64_t offset = random_int(seed, 0, FILE_BYTES / (int32_t)unit + 2) * unit;
    int64_t there = offset >= FILE_BYTES ? 0 : FILE_BYTES - offset;
    there = there < bytes ? there : bytes;
    int64_t read = read_device_file(t->file, t->memory + at, bytes, offset);
    CHECK(read == there, "%lld of %lld bytes at %lld", (long long)read, (long long)bytes, (long long)offset);
    memcpy(t->seen + at, t->content + (there == 0 ? 0 : offset), (size_t)there);
}

static inline void* run_device_file_reader(void* of) {
    device_file_reader* reader = of;
    for (int i = 0; i < FILE_READS; i++) {
        read_some(reader->test, &reader->seed, reader->from, reader->bytes);
    }
    return NULL;
}

static inline void check_seen(device_file_test* t, const char* what) {
    uint8_t* got = malloc(DEVICE_BYTES);
    int64_t ticket;
    MUST(lm_copy_to_host(t->queue, got, t->memory, DEVICE_BYTES, &ticket));
    MUST(lm_wait(t->queue, ticket));
    int64_t i = 0;
    while (i < DEVICE_BYTES && got[i] == t->seen[i]) {
        i++;
    }
    CHECK(i == DEVICE_BYTES, "%s: byte %lld of the memory is %d, not %d", what, (long long)i, got[i], t->seen[i]);
    free(got);
}

static inline void check_file_refusals(device_file_test* t) {
    int64_t read = 7;
    int32_t direct;
    void* host;
    lm_device_file* none;
    lm_device_file* file = t->file;
    INVALID(lm_device_file_read(file, t->memory + DEVICE_BYTES - 9, 10, 0, &read), "do not lie in one device");
    CHECK(read == 0, "%lld bytes beside an error", (long long)read);
    INVALID(lm_device_file_read(file, t->memory - 1, 10, 0, &read), "10 bytes at");
    INVALID(lm_device_file_read(file, t->memory + DEVICE_BYTES, 1, 0, &read), "1 bytes at");
    INVALID(lm_device_file_read(file, t->memory, DEVICE_BYTES + 1, 0, &read), "do not lie in one");
    INVALID(lm_device_file_read(file, NULL, 1, 0, &read), "do not lie in one");
    MUST(lm_host_alloc(t->device, 4096, &host));
    INVALID(lm_device_file_read(file, host, 16, 0, &read), "do not lie in one");
    MUST(lm_host_free(t->device, host, 4096));
    MUST(lm_device_file_read(file, NULL, 0, 0, &read));
    INVALID(lm_device_file_read(file, t->memory, -1, 0, &read), "-1 bytes");
    INVALID(lm_device_file_read(file, t->memory, (INT64_C(1) << 30) + 1, 0, &read), "1073741825 bytes");
    INVALID(lm_device_file_read(file, t->memory, 1, -1, &read), "offset -1");
    INVALID(lm_device_file_read(file, t->memory, 1, INT64_MAX, &read), "offset 9");
    INVALID(lm_device_file_read(file, t->memory, 1, 0, NULL), "read is null");
    INVALID(lm_device_file_read(NULL, t->memory, 1, 0, &read), "file is null");
    INVALID(lm_device_file_direct(NULL, &direct), "file is null");
    INVALID(lm_device_file_direct(file, NULL), "out is null");
    INVALID(lm_device_file_open(NULL, t->path, &none), "device is null");
    INVALID(lm_device_file_open(t->device, NULL, &none), "path is null");
    INVALID(lm_device_file_open(t->device, t->path, NULL), "out is null");
    REFUSES(lm_device_file_open(t->device, "/no/such/file", &none), LM_ERROR_IO, "No such file");
    CHECK(none == NULL, "a file beside an error");
    MUST(lm_device_file_close(NULL));
    INVALID(lm_device_close(t->device), "queues, KV caches or files");
}

/* The device has nothing but this queue; expected_direct: -1: unknown, for a GPU. 0: it has no such files here. */
static inline int test_device_files(lm_device* device, lm_queue* queue, int32_t expected_direct) {
    device_file_test t = {.device = device, .queue = queue, .path = "/tmp/lamina-test-device-XXXXXX"};
    uint64_t seed = 11;
    t.content = malloc(FILE_BYTES);
    t.seen = calloc(1, DEVICE_BYTES);
    for (int i = 0; i < FILE_BYTES; i++) {
        t.content[i] = (uint8_t)random_bits(&seed);
    }
    int descriptor = mkstemp(t.path);
    if (descriptor < 0 || write(descriptor, t.content, FILE_BYTES) != FILE_BYTES || fsync(descriptor) != 0
        || close(descriptor) != 0) {
        perror(t.path);
        exit(1);
    }
    int32_t status = lm_device_file_open(device, t.path, &t.file);
    if (status == LM_ERROR_UNSUPPORTED) {
        printf("no reads into memory of the device here: %s\n", last_error());
        CHECK(expected_direct < 0 || strstr(last_error(), "no direct reads") != NULL, "refused");
        unlink(t.path);
        free(t.content);
        free(t.seen);
        return 0;
    }
    CHECK(status == LM_OK, "%s", last_error());
    int32_t direct;
    MUST(lm_device_file_direct(t.file, &direct));
    CHECK(expected_direct < 0 || direct == expected_direct, "direct is %d", direct);
    MUST(lm_device_alloc(device, DEVICE_BYTES, (void**)&t.memory));
    for (int i = 0; i < 100; i++) {
        read_some(&t, &seed, 0, DEVICE_BYTES);
    }
    check_seen(&t, "one after the other");
    device_file_reader readers[FILE_READERS];
    for (int i = 0; i < FILE_READERS; i++) {
        int64_t part = DEVICE_BYTES / FILE_READERS;
        readers[i] = (device_file_reader){&t, 0, (uint64_t)i + 100, i * part + i % 3, part - 3};
        if (pthread_create(&readers[i].thread, NULL, run_device_file_reader, &readers[i]) != 0) {
            exit(1);
        }
    }
    for (int i = 0; i < FILE_READERS; i++) {
        pthread_join(readers[i].thread, NULL);
    }
    check_seen(&t, "together");
    check_file_refusals(&t);
    lm_device_file* directory;
    REFUSES(lm_device_file_open(device, "/tmp", &directory), LM_ERROR_IO, "not a regular file");
    if (truncate(t.path, 4096) == 0) {
        int64_t read = read_device_file(t.file, t.memory, 100, 4000);
        CHECK(read == 96, "%lld bytes of a file that was cut", (long long)read);
    }
    MUST(lm_device_free(device, t.memory, DEVICE_BYTES));
    int64_t read;
    INVALID(lm_device_file_read(t.file, t.memory, 1, 0, &read), "do not lie in one");
    MUST(lm_device_file_close(t.file));
    unlink(t.path);
    free(t.content);
    free(t.seen);
    return 1;
}

#endif
