/*
 * Pictures as SVG text: a page, shapes, and charts with axes. Coordinates are pixels from the upper
 * left corner; a chart maps data to its frame. Text is escaped here; numbers have two decimals, so
 * that the same data give the same bytes.
 */
#ifndef PTQ_WORKER_JOBS_SVG_H
#define PTQ_WORKER_JOBS_SVG_H

#include <stdbool.h>

#include "common/buf.h"

/* Colours that are told apart in print and by the colour-blind (Okabe and Ito). */
#define SVG_BLUE   "#0072b2"
#define SVG_ORANGE "#d55e00"
#define SVG_GREEN  "#009e73"
#define SVG_RED    "#cc3311"
#define SVG_GREY   "#666666"
const char *svg_colour(int i); /* the i-th of a cycle of eight */

enum { SVG_MAX = 64 << 20, SVG_TITLE_SHOWN = 100 };

/* Begins a page with a title and a line below it; svg_end closes it. b: SVG_MAX at most. */
void svg_begin(struct buf *b, int width, int height, const char *title, const char *subtitle);
void svg_end(struct buf *b);

/* style: attributes such as `stroke="#000"`. */
void svg_line(struct buf *b, double x1, double y1, double x2, double y2, const char *style);
void svg_rect(struct buf *b, double x, double y, double w, double h, const char *style);
/* anchor: "start", "middle" or "end"; turn: degrees; text longer than `most` characters loses its
 * middle (0: any length). A <title> shows the whole on hovering. */
void svg_text(struct buf *b, double x, double y, int size, const char *anchor, double turn,
              size_t most, const char *text);
/* A triangle that points down at (x, y). */
void svg_mark(struct buf *b, double x, double y, const char *style);

struct chart {
    struct buf *b;
    double left, top, width, height; /* of the frame */
    double x0, x1, y0, y1;           /* data at its edges; x1 > x0, y1 > y0 */
    bool log_y;                      /* y0 > 0 */
    bool whole_x;                    /* x counts: no ticks between */
};
double chart_x(const struct chart *c, double v);
double chart_y(const struct chart *c, double v); /* kept within the frame */
/* Widens y0, y1 by a twentieth, so that nothing lies on the frame; equal ones are parted. */
void chart_pad(struct chart *c);
/* Frame, grid, numbers and labels. x_numbers false: the caller names what stands on the x axis. */
void chart_axes(const struct chart *c, const char *x_label, const char *y_label, bool x_numbers);
/* NaN breaks the line. */
void chart_path(const struct chart *c, const double *x, const double *y, int n, const char *style);
/* A dot at a point of the data. */
void chart_dot(const struct chart *c, double x, double y, const char *style);
/* Entry i of a legend whose upper left corner is (x, y). */
void chart_legend(const struct chart *c, double x, double y, int i, const char *colour,
                  const char *text);

#endif
