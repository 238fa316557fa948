/* kernels.c: the table of the ops compiled for one instruction set. */
#include "kernels.h"

const lm_kernels LM_KERNEL(lm_kernels) = {
    .embed = LM_KERNEL(lm_embed),
    .norm = LM_KERNEL(lm_norm),
    .linear = LM_KERNEL(lm_linear),
    .rope = LM_KERNEL(lm_rope),
    .kv_store = LM_KERNEL(lm_kv_store),
    .attention = LM_KERNEL(lm_attention),
    .activation = LM_KERNEL(lm_activation),
    .add = LM_KERNEL(lm_add),
    .gather_rows = LM_KERNEL(lm_gather_rows),
    .linear_transposed = LM_KERNEL(lm_linear_transposed),
    .weight_norm = LM_KERNEL(lm_weight_norm),
    .scale = LM_KERNEL(lm_scale),
    .scatter_add = LM_KERNEL(lm_scatter_add),
    .convolution = LM_KERNEL(lm_convolution),
    .delta_rule = LM_KERNEL(lm_delta_rule),
    .linear_scratch = LM_KERNEL(lm_linear_scratch),
    .attention_scratch = LM_KERNEL(lm_attention_scratch),
    .linear_transposed_scratch = LM_KERNEL(lm_linear_transposed_scratch),
    .convolution_scratch = LM_KERNEL(lm_convolution_scratch),
    .delta_rule_scratch = LM_KERNEL(lm_delta_rule_scratch),
};
