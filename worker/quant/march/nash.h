/*
 * The rules that the marches of the Nash family have in common (spec §4), as rows for their tables:
 * a march's own file sets its name and puts the rows that differ before these, since the first row
 * that fits a port holds.
 */
#ifndef PTQ_WORKER_QUANT_MARCH_NASH_H
#define PTQ_WORKER_QUANT_MARCH_NASH_H

#include "worker/quant/march.h"

/* Sizes and attributes that a rule asks for. A size that is not known yet is taken for one that
 * fits. */
bool nash_softmax_fits(const struct graph *g, const struct node *n);
bool nash_layer_norm_fits(const struct graph *g, const struct node *n);
bool nash_instance_norm_fits(const struct graph *g, const struct node *n);
bool nash_group_norm_fits(const struct graph *g, const struct node *n);
bool nash_reduce_fits(const struct graph *g, const struct node *n);
bool nash_arg_fits(const struct graph *g, const struct node *n);
bool nash_rnn_fits(const struct graph *g, const struct node *n);
bool nash_grid_padding_fits(const struct graph *g, const struct node *n);
bool nash_odd_depthwise(const struct graph *g, const struct node *n);

/* clang-format off */
#define NASH_ANY (Q8 | Q16)
#define NASH_SAME(MARCH, name, rule) \
    {name, MARCH_REST, NASH_ANY, false, false, NULL, MARCH "/" rule, "int8 or int16", false}
#define NASH_SIZED(MARCH, name, fits, text) \
    {name, MARCH_REST, NASH_ANY, false, false, fits, MARCH "/reduce", "int8 or int16, over " text, false}
#define NASH_WEIGHTED(MARCH, name, rule) \
    {name, 1, Q8, false, true, NULL, MARCH "/" rule, \
     "the second input is int8; more only by error compensation (\"ec\")", false}, \
    {name, MARCH_REST, NASH_ANY, false, false, NULL, MARCH "/conv-feature", "int8 or int16", false}
#define NASH_REDUCED "at most 65535 elements"

#define NASH_ROWS(MARCH) \
    {"Conv", 0, NASH_ANY, false, false, NULL, MARCH "/conv-feature", "int8 or int16", true},       \
    NASH_WEIGHTED(MARCH, "Conv", "weight-int8"),                                                   \
    NASH_WEIGHTED(MARCH, "ConvTranspose", "weight-int8"),                                          \
    NASH_WEIGHTED(MARCH, "Gemm", "weight-int8"),                                                   \
    NASH_WEIGHTED(MARCH, "MatMul", "matmul-input1-int8"),                                          \
    {"Resize", 0, Q8, false, true, NULL, MARCH "/resize-int8", "Resize reads int8", false},        \
    {"Resize", MARCH_OUT, Q8, false, false, NULL, MARCH "/resize-int8", "Resize gives int8", false}, \
    {"GridSample", 0, Q8, false, true, nash_grid_padding_fits, MARCH "/grid-sample-int8",          \
     "GridSample reads int8, with padding zeros or border", false},                                \
    {"GridSample", 1, Q16, false, false, nash_grid_padding_fits, MARCH "/grid-int16",              \
     "the grid of GridSample is int16", false},                                                    \
    {"GridSample", MARCH_OUT, Q8, false, false, nash_grid_padding_fits, MARCH "/grid-sample-int8", \
     "GridSample gives int8", false},                                                              \
    NASH_SAME(MARCH, "Add", "same-type"),                                                          \
    NASH_SAME(MARCH, "Sub", "same-type"),                                                          \
    NASH_SAME(MARCH, "Mul", "same-type"),                                                          \
    NASH_SAME(MARCH, "Div", "lut"),                                                                \
    {"Div", MARCH_OUT, Q8, true, false, NULL, MARCH "/lut-output",                                 \
     "a look-up table that reads int8 gives int8", false},                                         \
    NASH_SAME(MARCH, "Lut", "lut"),                                                                \
    {"Lut", MARCH_OUT, Q8, true, false, NULL, MARCH "/lut-output",                                 \
     "a look-up table that reads int8 gives int8", false},                                         \
    NASH_SIZED(MARCH, "Softmax", nash_softmax_fits, NASH_REDUCED),                                 \
    NASH_SIZED(MARCH, "LogSoftmax", nash_softmax_fits, NASH_REDUCED),                              \
    NASH_SIZED(MARCH, "LayerNormalization", nash_layer_norm_fits, NASH_REDUCED),                   \
    NASH_SIZED(MARCH, "InstanceNormalization", nash_instance_norm_fits, NASH_REDUCED),             \
    NASH_SIZED(MARCH, "GroupNormalization", nash_group_norm_fits, NASH_REDUCED),                   \
    NASH_SIZED(MARCH, "ReduceL1", nash_reduce_fits, NASH_REDUCED),                                 \
    NASH_SIZED(MARCH, "ReduceL2", nash_reduce_fits, NASH_REDUCED),                                 \
    NASH_SIZED(MARCH, "ReduceMean", nash_reduce_fits, NASH_REDUCED),                               \
    NASH_SIZED(MARCH, "ReduceSum", nash_reduce_fits, NASH_REDUCED),                                \
    NASH_SIZED(MARCH, "ReduceMax", nash_reduce_fits, NASH_REDUCED),                                \
    NASH_SIZED(MARCH, "ArgMax", nash_arg_fits, "an axis of at most 32767"),                        \
    NASH_SIZED(MARCH, "ArgMin", nash_arg_fits, "an axis of at most 32767"),                        \
    NASH_SIZED(MARCH, "LSTM", nash_rnn_fits, "dims below 2097152"),                                \
    NASH_SIZED(MARCH, "GRU", nash_rnn_fits, "dims below 2097152"),                                 \
    NASH_SAME(MARCH, "AveragePool", "pool"),                                                       \
    NASH_SAME(MARCH, "GlobalAveragePool", "pool"),                                                 \
    NASH_SAME(MARCH, "Pad", "move"),                                                               \
    NASH_SAME(MARCH, "Expand", "move"),                                                            \
    NASH_SAME(MARCH, "Tile", "move"),                                                              \
    NASH_SAME(MARCH, "DepthToSpace", "move"),                                                      \
    NASH_SAME(MARCH, "SpaceToDepth", "move"),                                                      \
    NASH_SAME(MARCH, "Concat", "concat"),                                                          \
    NASH_SAME(MARCH, "MaxPool", "value-preserving"),                                               \
    NASH_SAME(MARCH, "GlobalMaxPool", "value-preserving"),                                         \
    NASH_SAME(MARCH, "Relu", "value-preserving"),                                                  \
    NASH_SAME(MARCH, "Clip", "value-preserving"),                                                  \
    NASH_SAME(MARCH, "Reshape", "value-preserving"),                                               \
    NASH_SAME(MARCH, "Flatten", "value-preserving"),                                               \
    NASH_SAME(MARCH, "Squeeze", "value-preserving"),                                               \
    NASH_SAME(MARCH, "Unsqueeze", "value-preserving"),                                             \
    NASH_SAME(MARCH, "Transpose", "value-preserving"),                                             \
    NASH_SAME(MARCH, "Split", "value-preserving"),                                                 \
    NASH_SAME(MARCH, "Slice", "value-preserving"),                                                 \
    NASH_SAME(MARCH, "Gather", "value-preserving"),                                                \
    NASH_SAME(MARCH, "ScatterND", "scatter"),

#define NASH_NOTES(MARCH) \
    {"Conv", Q_INT16, nash_odd_depthwise, MARCH "/depthwise-int16-stride",                         \
     "an int16 depthwise Conv with an even stride other than 2 runs as an ordinary Conv: it costs " \
     "more, its values are the same"},
/* clang-format on */

#endif
