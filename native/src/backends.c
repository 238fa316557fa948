/* backends.c: which backends there are, and loading those that are libraries of their own. */
#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>
#include <stdatomic.h>

enum { BACKENDS = LM_BACKEND_CUDA_EMULATED + 1 };

static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(const lm_backend*) loaded[BACKENDS]; /* set once, and never freed: devices of them may be open */

const lm_backend* lm_find_backend(int32_t backend) {
    if (backend == LM_BACKEND_CPU) {
        return &lm_cpu_backend;
    }
    return backend > 0 && backend < BACKENDS ? atomic_load(&loaded[backend]) : NULL;
}

static int32_t load(int32_t backend, const char* path) {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return lm_fail(LM_ERROR_UNSUPPORTED, "lm_backend_load: %s", dlerror());
    }
    lm_backend_entry entry;
    *(void**)&entry = dlsym(library, LM_BACKEND_ENTRY); /* as POSIX has it: C knows no cast between the two */
    lm_host host = {LM_ABI_VERSION, backend, sizeof(lm_backend), lm_fail, lm_memory_alloc, lm_memory_free};
    const lm_backend* table = entry == NULL ? NULL : entry(&host);
    if (table == NULL) {
        dlclose(library);
        return lm_fail(LM_ERROR_UNSUPPORTED, "lm_backend_load: %s is not backend %d for version %d of the interface",
                       path, backend, LM_ABI_VERSION);
    }
    atomic_store(&loaded[backend], table);
    return LM_OK;
}

int32_t lm_backend_load(int32_t backend, const char* path) {
    REQUIRE_POINTER(path);
    REQUIRE(backend >= 0 && backend < BACKENDS, "lm_backend_load: there is no backend %d", backend);
    pthread_mutex_lock(&loading);
    int32_t status = lm_find_backend(backend) != NULL ? LM_OK : load(backend, path);
    pthread_mutex_unlock(&loading);
    return status;
}
