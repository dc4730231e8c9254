/* March nash-e (spec §4). */
#include "worker/quant/march/nash.h"

static const struct march_row rows[] = {NASH_ROWS("nash-e"){0}};
static const struct march_note notes[] = {NASH_NOTES("nash-e"){0}};

const struct march march_nash_e = {"nash-e", rows, notes,
                                   512,      10,   "int8 and int16 features, int8 weights."};
