/* March nash-m: the vendor documents its operators together with nash-e's, so no row differs. */
#include "worker/quant/march/nash.h"

static const struct march_row rows[] = {NASH_ROWS("nash-m"){0}};
static const struct march_note notes[] = {NASH_NOTES("nash-m"){0}};

const struct march march_nash_m = {
    "nash-m", rows, notes, 512, 10, "int8 and int16 features, int8 weights: the rules of nash-e."};
