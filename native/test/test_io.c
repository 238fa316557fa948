/* test_io.c: files, rings and files of a device read the right bytes, in any order and number, and tell what is wrong */
#define _GNU_SOURCE
#include "device_file.h"
#include "test.h"

#include <fcntl.h>

enum { BLOCK = 4096, BLOCKS = 300, TAIL = 1234, SIZE = BLOCKS * BLOCK + TAIL, DEPTH = 16 };

static char path[] = "/tmp/lamina-test-io-XXXXXX";
static uint8_t content[SIZE];

static void write_file(void) {
    uint64_t seed = 1;
    for (int i = 0; i < SIZE; i++) {
        content[i] = (uint8_t)random_bits(&seed);
    }
    int descriptor = mkstemp(path);
    if (descriptor < 0 || write(descriptor, content, SIZE) != SIZE || close(descriptor) != 0) {
        perror(path);
        exit(1);
    }
}

static uint8_t* aligned(size_t bytes) {
    void* memory;
    if (posix_memalign(&memory, BLOCK, bytes) != 0) {
        exit(1);
    }
    return memory;
}

static int64_t left(int64_t bytes, int64_t offset) {
    int64_t there = offset < SIZE ? SIZE - offset : 0;
    return bytes < there ? bytes : there;
}

static void test_files(int32_t mode) {
    lm_file* file;
    int32_t status = lm_file_open(path, mode, &file);
    if (mode == LM_FILE_DIRECT && status == LM_ERROR_UNSUPPORTED) {
        printf("no direct reads of %s: %s\n", path, last_error());
        return;
    }
    CHECK(status == LM_OK, "%s", last_error());
    int64_t step = mode == LM_FILE_DIRECT ? BLOCK : 1;
    uint8_t* memory = aligned(64 * BLOCK);
    uint64_t seed = 2;
    for (int i = 0; i < 500; i++) {
        int64_t bytes = random_int(&seed, 0, (int32_t)(64 * BLOCK / step)) * step;
        int64_t offset = random_int(&seed, 0, (int32_t)(SIZE / step + 2)) * step;
        int64_t read;
        memset(memory, 0, 64 * BLOCK);
        MUST(lm_file_read(file, memory, bytes, offset, &read));
        CHECK(read == left(bytes, offset), "%lld of %lld bytes at %lld", (long long)read, (long long)bytes,
              (long long)offset);
        CHECK(memcmp(memory, content + (offset < SIZE ? offset : 0), (size_t)read) == 0, "bytes at %lld",
              (long long)offset);
    }
    if (mode == LM_FILE_DIRECT) { /* what is not aligned, some file systems refuse and others read */
        int64_t read;
        int32_t refused = lm_file_read(file, memory + 1, 511, 3, &read);
        CHECK(refused == LM_OK ? read == 511 && memcmp(memory + 1, content + 3, 511) == 0
                               : refused == LM_ERROR_IO && strstr(last_error(), "Invalid argument") != NULL,
              "a misaligned read gave status %d, %lld bytes", refused, (long long)read);
    }
    MUST(lm_file_forget(file, 0, 0));
    MUST(lm_file_forget(file, BLOCK, 3));
    free(memory);
    MUST(lm_file_close(file));
}

/* Many random reads under way at once; each result fits its tag. */
static void test_ring(int32_t mode) {
    lm_ring* ring;
    lm_file* file;
    int32_t status = lm_ring_open(DEPTH, &ring);
    if (status == LM_ERROR_UNSUPPORTED || lm_file_open(path, mode, &file) == LM_ERROR_UNSUPPORTED) {
        printf("not here: %s\n", last_error());
        lm_ring_close(ring);
        return;
    }
    CHECK(status == LM_OK, "%s", last_error());
    int64_t step = mode == LM_FILE_DIRECT ? BLOCK : 1;
    enum { MOST = 8 * BLOCK };
    uint8_t* memory = aligned((size_t)DEPTH * MOST);
    lm_read reads[DEPTH];
    int free_slots[DEPTH];
    int free_count = DEPTH;
    for (int i = 0; i < DEPTH; i++) {
        free_slots[i] = i;
    }
    uint64_t seed = 3;
    int begun = 0;
    int ended = 0;
    while (begun < 3000 || ended < begun) {
        lm_read batch[DEPTH];
        int count = begun >= 3000 ? 0 : random_int(&seed, 0, free_count);
        for (int i = 0; i < count; i++) {
            int slot = free_slots[--free_count];
            reads[slot] = (lm_read){
                .file = file,
                .to = memory + (int64_t)slot * MOST,
                .bytes = random_int(&seed, 1, (int32_t)(MOST / step)) * step,
                .offset = random_int(&seed, 0, (int32_t)(SIZE / step + 1)) * step,
                .tag = slot,
            };
            batch[i] = reads[slot];
        }
        begun += count;
        MUST(lm_ring_submit(ring, batch, count));
        if (free_count == DEPTH) {
            continue;
        }
        lm_read_result results[DEPTH];
        int32_t got;
        MUST(lm_ring_wait(ring, results, random_int(&seed, 1, DEPTH), &got));
        CHECK(got > 0, "no result");
        for (int32_t i = 0; i < got; i++) {
            const lm_read* read = &reads[results[i].tag];
            CHECK(results[i].bytes == left(read->bytes, read->offset), "%lld of %lld at %lld",
                  (long long)results[i].bytes, (long long)read->bytes, (long long)read->offset);
            CHECK(results[i].bytes < 0
                      || memcmp(read->to, content + (read->offset < SIZE ? read->offset : 0), (size_t)results[i].bytes)
                             == 0,
                  "bytes at %lld", (long long)read->offset);
            free_slots[free_count++] = (int)results[i].tag;
            ended++;
        }
    }
    /* A read that is not aligned fails or gives the right bytes, and does not disturb others. */
    if (mode == LM_FILE_DIRECT) {
        lm_read two[] = {{file, memory + 1, 100, 7, 70}, {file, memory + MOST, BLOCK, 0, 71}};
        MUST(lm_ring_submit(ring, two, 2));
        for (int seen = 0; seen < 2;) {
            lm_read_result results[2];
            int32_t got;
            MUST(lm_ring_wait(ring, results, 2, &got));
            for (int i = 0; i < got; i++, seen++) {
                int refused = results[i].tag == 70 && results[i].bytes < 0;
                const lm_read* done = &two[results[i].tag - 70];
                CHECK(refused
                          || (results[i].bytes == done->bytes
                              && memcmp(done->to, content + done->offset, (size_t)done->bytes) == 0),
                      "tag %lld gave %lld", (long long)results[i].tag, (long long)results[i].bytes);
            }
        }
    }
    int32_t got;
    lm_read_result result;
    lm_read read = {file, memory, BLOCK, 0, 1};
    INVALID(lm_ring_wait(ring, &result, 1, &got), "no read is under way");
    INVALID(lm_ring_wait(ring, &result, 0, &got), "capacity 0");
    INVALID(lm_ring_wait(ring, NULL, 1, &got), "out is null");
    INVALID(lm_ring_submit(ring, NULL, 1), "reads is null");
    INVALID(lm_ring_submit(ring, &read, -1), "-1 reads");
    INVALID(lm_ring_submit(ring, &read, DEPTH + 1), "depth 16");
    INVALID(lm_ring_submit(ring, &(lm_read){file, NULL, 1, 0, 0}, 1), "to is null");
    INVALID(lm_ring_submit(ring, &(lm_read){NULL, memory, 1, 0, 0}, 1), "file is null");
    INVALID(lm_ring_submit(ring, &(lm_read){file, memory, 1, -1, 0}, 1), "offset -1");
    INVALID(lm_ring_submit(ring, &(lm_read){file, memory, INT64_C(1) << 31, 0, 0}, 1), "bytes");
    MUST(lm_ring_submit(ring, &read, 1)); /* close waits for it: the memory is freed right after */
    MUST(lm_ring_close(ring));
    free(memory);
    MUST(lm_file_close(file));
}

static void test_arguments(void) {
    lm_file* file;
    lm_ring* ring;
    uint8_t byte;
    int64_t read;
    INVALID(lm_file_open(NULL, LM_FILE_BUFFERED, &file), "path is null");
    INVALID(lm_file_open(path, LM_FILE_BUFFERED, NULL), "out is null");
    INVALID(lm_file_open(path, 7, &file), "mode 7");
    REFUSES(lm_file_open("/no/such/file", LM_FILE_BUFFERED, &file), LM_ERROR_IO, "No such file");
    CHECK(file == NULL, "a file beside an error");
    MUST(lm_file_open("/tmp", LM_FILE_BUFFERED, &file));
    REFUSES(lm_file_read(file, &byte, 1, 0, &read), LM_ERROR_IO, "directory");
    INVALID(lm_file_read(file, &byte, -1, 0, &read), "-1 bytes");
    INVALID(lm_file_read(file, &byte, 1, -1, &read), "offset -1");
    INVALID(lm_file_read(file, NULL, 1, 0, &read), "to is null");
    INVALID(lm_file_read(file, &byte, 1, 0, NULL), "read is null");
    INVALID(lm_file_read(NULL, &byte, 1, 0, &read), "file is null");
    INVALID(lm_file_forget(NULL, 0, 0), "file is null");
    INVALID(lm_file_forget(file, -1, 0), "at -1");
    MUST(lm_file_close(file));
    MUST(lm_file_close(NULL));
    MUST(lm_ring_close(NULL));
    INVALID(lm_ring_open(1, NULL), "out is null");
    CHECK(lm_ring_open(0, &ring) != LM_OK && ring == NULL, "a ring of depth 0");
}

/* On the CPU they are plain files, through the page cache. */
static void test_files_of_the_cpu(void) {
    lm_device* device;
    lm_queue* queue;
    MUST(lm_device_open(&(lm_device_options){.threads = 1}, &device));
    MUST(lm_queue_create(device, &queue));
    CHECK(test_device_files(device, queue, 0) == 1, "%s", last_error());
    MUST(lm_queue_destroy(queue));
    MUST(lm_device_close(device));
}

int main(void) {
    write_file();
    test_arguments();
    for (int32_t mode = LM_FILE_BUFFERED; mode <= LM_FILE_DIRECT; mode++) {
        test_files(mode);
        test_ring(mode);
    }
    unlink(path);
    test_files_of_the_cpu();
    return finish_tests("test_io");
}
