/* device_copy.h: what lamina.h has no call for: the driver's own copy within device memory, and its versions. */
#ifndef LAMINA_TEST_DEVICE_COPY_H
#define LAMINA_TEST_DEVICE_COPY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct device_facts {
    int32_t major; /* compute capability of the first GPU */
    int32_t minor;
    int32_t driver;  /* the newest CUDA that the driver can do: 1000 * major + 10 * minor */
    int32_t runtime; /* the CUDA that this was built with, likewise */
} device_facts;

/* All give null, or a message. Two ranges of device memory of so many bytes, for one caller at a time. */
const char* device_copy_open(int64_t bytes, device_facts* out);

/* Copies one range to the other, count times, and returns when that is done. */
const char* device_copy_run(int32_t count);

const char* device_copy_close(void);

#ifdef __cplusplus
}
#endif

#endif
