/* check.h: how the functions of lamina.h refuse wrong arguments. */
#ifndef LAMINA_CHECK_H
#define LAMINA_CHECK_H

#include "backend.h"

#define REQUIRE(condition, ...)                                                                                        \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            return lm_fail(LM_ERROR_INVALID_ARGUMENT, __VA_ARGS__);                                                    \
        }                                                                                                              \
    } while (0)

#define REQUIRE_POINTER(pointer) REQUIRE((pointer) != NULL, "%s: %s is null", __func__, #pointer)

#define LL(x) ((long long)(x))

#endif
