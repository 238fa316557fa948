/* file.h: files that are read into device memory; backend.cu has chosen the device before each call. */
#ifndef LAMINA_CUDA_FILE_H
#define LAMINA_CUDA_FILE_H

#include "../backend.h"

int32_t file_open(const lm_host* host, const char* path, lm_device_file** out);
void file_close(lm_device_file* file);
int32_t file_read(const lm_host* host, lm_device_file* file, void* memory, int64_t at, int64_t bytes, int64_t offset,
                  int64_t* read);

#endif
