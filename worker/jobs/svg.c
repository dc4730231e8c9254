#include "worker/jobs/svg.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL = 13, NUMBER = 11, TICKS_ABOUT = 6, LEGEND_STEP = 18, LEGEND_SHOWN = 34 };

const char *svg_colour(int i)
{
    static const char *const cycle[] = {SVG_BLUE,  SVG_ORANGE, SVG_GREEN, "#cc79a7",
                                        "#e69f00", "#56b4e9",  "#444444", "#b8a000"};
    return cycle[i % 8];
}

/* ---- shapes ---- */

/* n bytes of UTF-8, escaped; what XML cannot hold is left out. */
static void put_text(struct buf *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        switch (s[i]) {
        case '<':
            buf_adds(b, "&lt;");
            break;
        case '>':
            buf_adds(b, "&gt;");
            break;
        case '&':
            buf_adds(b, "&amp;");
            break;
        default:
            if ((unsigned char)s[i] >= ' ')
                buf_add(b, s + i, 1);
        }
}

/* Moves to the beginning of a character. */
static size_t whole(const char *s, size_t at)
{
    while (((unsigned char)s[at] & 0xC0) == 0x80)
        at++;
    return at;
}

static void put_short(struct buf *b, const char *text, size_t most)
{
    size_t n = strlen(text);
    if (!most || n <= most) {
        put_text(b, text, n);
        return;
    }
    size_t head = whole(text, most / 3), tail = whole(text, n - (most - most / 3 - 3));
    put_text(b, text, head);
    buf_adds(b, "...");
    put_text(b, text + tail, n - tail);
}

void svg_text(struct buf *b, double x, double y, int size, const char *anchor, double turn,
              size_t most, const char *text)
{
    buf_addf(b, "<text x=\"%.2f\" y=\"%.2f\" font-size=\"%d\" text-anchor=\"%s\"", x, y, size,
             anchor);
    if (turn != 0)
        buf_addf(b, " transform=\"rotate(%.0f %.2f %.2f)\"", turn, x, y);
    buf_adds(b, ">");
    put_short(b, text, most);
    if (most && strlen(text) > most) {
        buf_adds(b, "<title>");
        put_text(b, text, strlen(text));
        buf_adds(b, "</title>");
    }
    buf_adds(b, "</text>\n");
}

void svg_begin(struct buf *b, int width, int height, const char *title, const char *subtitle)
{
    buf_addf(
        b,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d "
        "%d\" font-family=\"sans-serif\" fill=\"#222\">\n",
        width, height, width, height);
    svg_rect(b, 0, 0, width, height, "fill=\"#fff\"");
    svg_text(b, 24, 28, 17, "start", 0, SVG_TITLE_SHOWN, title);
    svg_text(b, 24, 49, LABEL, "start", 0, 0, subtitle);
}

void svg_end(struct buf *b)
{
    buf_adds(b, "</svg>\n");
}

void svg_line(struct buf *b, double x1, double y1, double x2, double y2, const char *style)
{
    buf_addf(b, "<line x1=\"%.2f\" y1=\"%.2f\" x2=\"%.2f\" y2=\"%.2f\" %s/>\n", x1, y1, x2, y2,
             style);
}

void svg_rect(struct buf *b, double x, double y, double w, double h, const char *style)
{
    buf_addf(b, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" %s/>\n", x, y, w, h,
             style);
}

void svg_mark(struct buf *b, double x, double y, const char *style)
{
    buf_addf(b, "<path d=\"M%.2f %.2fl-6 -11h12z\" %s/>\n", x, y, style);
}

/* ---- charts ---- */

double chart_x(const struct chart *c, double v)
{
    return c->left + (v - c->x0) / (c->x1 - c->x0) * c->width;
}

double chart_y(const struct chart *c, double v)
{
    double part = c->log_y ? log(v / c->y0) / log(c->y1 / c->y0) : (v - c->y0) / (c->y1 - c->y0);
    part = !(part > 0) ? 0 : part > 1 ? 1 : part;
    return c->top + (1 - part) * c->height;
}

void chart_pad(struct chart *c)
{
    double room = (c->y1 - c->y0) / 20;
    if (!(room > 0))
        room = c->y1 != 0 ? fabs(c->y1) / 20 : 1;
    c->y0 -= room;
    c->y1 += room;
}

/* 1, 2 or 5 times a power of ten. */
static double tick_step(double range, int about)
{
    double raw = range / about, power = pow(10, floor(log10(raw))), m = raw / power;
    return power * (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10);
}

/* As many digits as tell neighbours apart. */
static const char *tick_text(double v, double step, char ret[32])
{
    double size = fmax(fabs(v), step);
    if (fabs(v) < step / 1e6)
        v = 0;
    if (size >= 1e5 || size < 1e-3)
        snprintf(ret, 32, "%.3g", v);
    else
        snprintf(ret, 32, "%.*f", step < 1 ? (int)ceil(-log10(step) - 1e-9) : 0, v);
    return ret;
}

static void y_tick(const struct chart *c, double v, const char *text)
{
    double y = chart_y(c, v);
    svg_line(c->b, c->left, y, c->left + c->width, y, "stroke=\"#e4e4e4\"");
    svg_text(c->b, c->left - 7, y + 4, NUMBER, "end", 0, 0, text);
}

static void y_ticks(const struct chart *c)
{
    char text[32];
    if (c->log_y) {
        for (double v = pow(10, ceil(log10(c->y0) - 1e-9)); v <= c->y1 * 1.0001; v *= 10) {
            snprintf(text, sizeof text, "%g", v);
            y_tick(c, v, text);
        }
        return;
    }
    double step = tick_step(c->y1 - c->y0, TICKS_ABOUT);
    for (double v = ceil(c->y0 / step - 1e-9) * step; v <= c->y1 + step * 1e-9; v += step)
        y_tick(c, v, tick_text(v, step, text));
}

static void x_ticks(const struct chart *c)
{
    char text[32];
    double step = tick_step(c->x1 - c->x0, 2 * TICKS_ABOUT), bottom = c->top + c->height;
    step = c->whole_x && step < 1 ? 1 : step;
    for (double v = ceil(c->x0 / step - 1e-9) * step; v <= c->x1 + step * 1e-9; v += step) {
        double x = chart_x(c, v);
        svg_line(c->b, x, c->top, x, bottom, "stroke=\"#f0f0f0\"");
        svg_line(c->b, x, bottom, x, bottom + 4, "stroke=\"#888\"");
        svg_text(c->b, x, bottom + 18, NUMBER, "middle", 0, 0, tick_text(v, step, text));
    }
}

void chart_axes(const struct chart *c, const char *x_label, const char *y_label, bool x_numbers)
{
    if (x_numbers) {
        x_ticks(c);
        svg_text(c->b, c->left + c->width / 2, c->top + c->height + 40, LABEL, "middle", 0, 0,
                 x_label);
    }
    y_ticks(c);
    svg_rect(c->b, c->left, c->top, c->width, c->height, "fill=\"none\" stroke=\"#888\"");
    svg_text(c->b, c->left - 58, c->top + c->height / 2, LABEL, "middle", -90, 0, y_label);
}

void chart_path(const struct chart *c, const double *x, const double *y, int n, const char *style)
{
    bool down = false;
    buf_addf(c->b, "<path fill=\"none\" stroke-linejoin=\"round\" %s d=\"", style);
    for (int i = 0; i < n; i++) {
        if (isnan(y[i])) {
            down = false;
            continue;
        }
        buf_addf(c->b, "%s%.2f %.2f", down ? "L" : "M", chart_x(c, x[i]), chart_y(c, y[i]));
        down = true;
    }
    buf_adds(c->b, "\"/>\n");
}

void chart_dot(const struct chart *c, double x, double y, const char *style)
{
    buf_addf(c->b, "<circle cx=\"%.2f\" cy=\"%.2f\" r=\"3.5\" %s/>\n", chart_x(c, x), chart_y(c, y),
             style);
}

void chart_legend(const struct chart *c, double x, double y, int i, const char *colour,
                  const char *text)
{
    char style[64];
    snprintf(style, sizeof style, "fill=\"%s\"", colour);
    svg_rect(c->b, x, y + i * LEGEND_STEP, 14, 10, style);
    svg_text(c->b, x + 20, y + 10 + i * LEGEND_STEP, NUMBER + 1, "start", 0, LEGEND_SHOWN, text);
}
