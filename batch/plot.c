#include "batch/plot.h"

#include "batch/plot_axis.h"
#include "core/file.h"
#include "core/id.h"

#include <math.h>
#include <string.h>

/* One panel with its margins, in pixels. */
enum {
    WIDTH = 480,
    HEIGHT = 320,
    LEFT = 62,
    RIGHT = 18,
    TOP = 58,
    BOTTOM = 52,
    HEADER = 44,    /* the plot's title above the panels */
    POINTS_MAX = 40 /* with more of them a line has no dots */
};

/* Colours that stay apart for the colour-blind, of like weight on their ground; nothing is told by colour alone. */
static const char style[] =
    "<style>\n"
    "text{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#475467}\n"
    ".t{font-size:17px;font-weight:600;fill:#101828}.p{font-size:14px;font-weight:600;fill:#1d2939}\n"
    ".bg{fill:#fff}.grid{stroke:#e4e7ec}.axis{stroke:#98a2b3}.v{font-size:11px;fill:#344054}\n"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.whisker{fill:none;stroke-"
    "width:1.5}\n"
    ".band{stroke:none;fill-opacity:.16}.faint{stroke-width:1;stroke-opacity:.35}.bar{fill-opacity:.85}\n"
    ".bars .whisker{stroke:#1d2939}\n"
    ".s0{stroke:#1565c0}.s1{stroke:#d9480f}.s2{stroke:#2b8a3e}.s3{stroke:#7b2cbf}.s4{stroke:#a86500}.s5{"
    "stroke:#0b7285}\n"
    ".f0{fill:#1565c0}.f1{fill:#d9480f}.f2{fill:#2b8a3e}.f3{fill:#7b2cbf}.f4{fill:#a86500}.f5{fill:#0b7285}\n"
    "@media (prefers-color-scheme:dark){\n"
    "text{fill:#a9b4c4}.t{fill:#f2f4f7}.p{fill:#e4e7ec}\n"
    ".bg{fill:#12161d}.grid{stroke:#28303c}.axis{stroke:#667085}.v{fill:#d0d5dd}\n"
    ".band{fill-opacity:.24}.bars .whisker{stroke:#f2f4f7}\n"
    ".s0{stroke:#6cb2ff}.s1{stroke:#ff9a5c}.s2{stroke:#69db7c}.s3{stroke:#cfa3ff}.s4{stroke:#f5c451}.s5{"
    "stroke:#5ed3e0}\n"
    ".f0{fill:#6cb2ff}.f1{fill:#ff9a5c}.f2{fill:#69db7c}.f3{fill:#cfa3ff}.f4{fill:#f5c451}.f5{fill:#5ed3e0}\n"
    "}\n"
    "</style>\n";

void plot_print_text(FILE *stream, const char *text)
{
    const bool valid = utf8_valid(text, strlen(text));
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at == '&')
            fputs("&amp;", stream);
        else if (*at == '<')
            fputs("&lt;", stream);
        else if (*at == '>')
            fputs("&gt;", stream);
        else if (*at == '"')
            fputs("&quot;", stream);
        else
            fputc(*at < ' ' ? ' ' : *at >= 0x80 && !valid ? '?' : *at, stream);
    }
    /* U+FFFE and U+FFFF are valid UTF-8 and no XML; nobody names a run so. */
}

/* ---- from values to pixels ---- */

struct frame {
    FILE *out;
    const struct plot_panel *panel;
    double left, top; /* of the panel */
    struct plot_axis x, y;
    double x_low, x_high; /* of the x axis; logarithms where it is logarithmic */
};

static double at_x(const struct frame *f, double x)
{
    const double value = f->panel->x_log ? log2(x) : x;
    return f->left + LEFT + (value - f->x_low) / (f->x_high - f->x_low) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const struct frame *f, double y)
{
    const double low = f->y.first, high = plot_axis_last(&f->y);
    return f->top + HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
}

static void widen(double *low, double *high, double value)
{
    if (isfinite(value)) {
        *low = fmin(*low, value);
        *high = fmax(*high, value);
    }
}

static void fit_y(struct frame *f)
{
    const struct plot_panel *panel = f->panel;
    double low = panel->kind == PLOT_BARS ? 0 : INFINITY, high = panel->kind == PLOT_BARS ? 0 : -INFINITY;
    for (size_t i = 0; i < panel->series_count; i++) {
        const struct plot_series *s = &panel->series[i];
        for (size_t k = 0; k < s->count; k++) {
            widen(&low, &high, s->y[k]);
            if (s->low && isfinite(s->y[k])) {
                widen(&low, &high, s->low[k]);
                widen(&low, &high, s->high[k]);
            }
        }
    }
    if (panel->kind == PLOT_BARS) { /* room for the values written at the ends */
        const double room = 0.12 * (high - low);
        low -= low < 0 ? room : 0;
        high += high > 0 ? room : 0;
    }
    f->y = plot_axis_make(low, high, 5);
}

static void fit_x(struct frame *f)
{
    const struct plot_panel *panel = f->panel;
    double low = INFINITY, high = -INFINITY;
    if (panel->kind == PLOT_BARS) {
        f->x_low = -0.5;
        f->x_high = panel->series_count ? (double)panel->series[0].count - 0.5 : 0.5;
        return;
    }
    for (size_t i = 0; i < panel->series_count; i++)
        for (size_t k = 0; k < panel->series[i].count; k++)
            widen(&low, &high, panel->x_log ? log2(panel->series[i].x[k]) : panel->series[i].x[k]);
    if (!panel->x_log && low > 0 && low < 0.3 * high)
        low = 0; /* steps are counted from 0 */
    f->x = plot_axis_make(low, high, 5);
    if (panel->x_log) {
        f->x_low = isfinite(low) ? low - 0.3 : 0;
        f->x_high = isfinite(low) ? high + 0.3 : 1;
    } else {
        f->x_low = f->x.first;
        f->x_high = high > f->x.first && isfinite(high) ? high : plot_axis_last(&f->x);
    }
}

/* ---- the frame of a panel ---- */

static void print_line(const struct frame *f, const char *class, double x1, double y1, double x2, double y2)
{
    fprintf(f->out, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class, x1, y1,
        x2, y2);
}

static void print_label(
    const struct frame *f, const char *class, const char *anchor, double x, double y, const char *text)
{
    fprintf(f->out, "<text class=\"%s\" text-anchor=\"%s\" x=\"%.1f\" y=\"%.1f\">", class, anchor, x, y);
    plot_print_text(f->out, text);
    fputs("</text>\n", f->out);
}

static void print_x_ticks(const struct frame *f)
{
    const struct plot_panel *panel = f->panel;
    const double bottom = f->top + HEIGHT - BOTTOM;
    char text[32];
    if (panel->kind == PLOT_BARS || panel->x_log) {
        for (size_t k = 0; panel->series_count && k < panel->series[0].count; k++) {
            const bool bars = panel->kind == PLOT_BARS;
            const double x = at_x(f, bars ? (double)k : panel->series[0].x[k]);
            if (!bars)
                snprintf(text, sizeof text, "%g", panel->series[0].x[k]);
            print_label(f, "l", "middle", x, bottom + 18, bars ? panel->names[k] : text);
        }
        return;
    }
    for (size_t k = 0; k < f->x.count; k++) {
        const double value = f->x.first + (double)k * f->x.step, x = at_x(f, value);
        if (value > f->x_high + 1e-6 * f->x.step)
            break; /* the axis ends where the data do */
        plot_axis_label(text, &f->x, k);
        print_line(f, "axis", x, bottom, x, bottom + 4);
        print_label(f, "l", "middle", x, bottom + 18, text);
    }
}

static void print_frame(const struct frame *f)
{
    const double left = f->left + LEFT, right = f->left + WIDTH - RIGHT, bottom = f->top + HEIGHT - BOTTOM;
    const double middle = f->top + TOP + (HEIGHT - TOP - BOTTOM) / 2.0;
    for (size_t k = 0; k < f->y.count; k++) {
        const double y = at_y(f, f->y.first + (double)k * f->y.step);
        char text[32];
        plot_axis_label(text, &f->y, k);
        print_line(f, "grid", left, y, right, y);
        print_label(f, "l", "end", left - 8, y + 4, text);
    }
    const double zero = f->y.first < 0 && plot_axis_last(&f->y) > 0 ? at_y(f, 0) : bottom;
    print_line(f, "axis", left, f->panel->kind == PLOT_BARS ? zero : bottom, right,
        f->panel->kind == PLOT_BARS ? zero : bottom);
    print_x_ticks(f);
    print_label(f, "p", "start", left, f->top + 22, f->panel->title);
    if (f->panel->x_label)
        print_label(f, "l", "middle", (left + right) / 2, bottom + 38, f->panel->x_label);
    if (f->panel->y_label) {
        fprintf(f->out, "<text text-anchor=\"middle\" transform=\"translate(%.1f %.1f) rotate(-90)\">",
            f->left + 14, middle);
        plot_print_text(f->out, f->panel->y_label);
        fputs("</text>\n", f->out);
    }
}

static void print_legend(const struct frame *f)
{
    double x = f->left + LEFT;
    const double y = f->top + 40;
    for (size_t i = 0; i < f->panel->series_count; i++) {
        const struct plot_series *s = &f->panel->series[i];
        if (!s->name)
            continue;
        fprintf(f->out,
            "<rect class=\"f%zu\" x=\"%.1f\" y=\"%.1f\" width=\"14\" height=\"%d\" rx=\"1.5\"/>\n",
            s->color % PLOT_COLORS, x, y - (f->panel->kind == PLOT_BARS ? 9 : 5.5),
            f->panel->kind == PLOT_BARS ? 10 : 3);
        print_label(f, "l", "start", x + 20, y, s->name);
        const size_t letters = strlen(s->name);
        x += 38 + 6.8 * (double)letters;
    }
}

/* ---- what is in it ---- */

static void print_whisker(const struct frame *f, double x, double low, double high, size_t color)
{
    fprintf(f->out, "<path class=\"whisker s%zu\" d=\"M%.1f %.1fh8M%.1f %.1fV%.1fM%.1f %.1fh8\"/>\n", color,
        x - 4, at_y(f, low), x, at_y(f, low), at_y(f, high), x - 4, at_y(f, high));
}

static void print_band(const struct frame *f, const struct plot_series *s)
{
    fprintf(f->out, "<path class=\"band f%zu\" d=\"", s->color % PLOT_COLORS);
    char command = 'M';
    for (size_t k = 0; k < s->count; k++)
        if (isfinite(s->y[k])) {
            fprintf(f->out, "%c%.1f %.1f", command, at_x(f, s->x[k]), at_y(f, s->high[k]));
            command = 'L';
        }
    for (size_t k = s->count; k-- > 0;)
        if (isfinite(s->y[k]))
            fprintf(f->out, "L%.1f %.1f", at_x(f, s->x[k]), at_y(f, s->low[k]));
    fputs(command == 'L' ? "Z\"/>\n" : "\"/>\n", f->out);
}

static void print_curve(const struct frame *f, const struct plot_series *s)
{
    bool down = false;
    if (s->low && s->spread == PLOT_BAND)
        print_band(f, s);
    fprintf(f->out, "<path class=\"line s%zu%s\" d=\"", s->color % PLOT_COLORS, s->faint ? " faint" : "");
    for (size_t k = 0; k < s->count; k++) {
        if (isfinite(s->y[k]))
            fprintf(f->out, "%c%.1f %.1f", down ? 'L' : 'M', at_x(f, s->x[k]), at_y(f, s->y[k]));
        down = isfinite(s->y[k]);
    }
    fputs("\"/>\n", f->out);
    for (size_t k = 0; k < s->count && !s->faint && s->count <= POINTS_MAX; k++) {
        if (!isfinite(s->y[k]))
            continue;
        if (s->low && s->spread == PLOT_WHISKERS)
            print_whisker(f, at_x(f, s->x[k]), s->low[k], s->high[k], s->color % PLOT_COLORS);
        fprintf(f->out, "<circle class=\"f%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"><title>",
            s->color % PLOT_COLORS, at_x(f, s->x[k]), at_y(f, s->y[k]));
        plot_print_text(f->out, s->name ? s->name : f->panel->title);
        fprintf(f->out, " at %g: %.5g</title></circle>\n", s->x[k], s->y[k]);
    }
}

/* The i-th of the panel's series of bars: a group's bars side by side, each with its value above or below. */
static void print_bars(const struct frame *f, size_t i)
{
    const struct plot_series *s = &f->panel->series[i];
    const double group = 0.66 / (double)f->panel->series_count, zero = at_y(f, 0);
    const double width = fmin(64, group * (WIDTH - LEFT - RIGHT) / (double)s->count - 2);
    for (size_t k = 0; k < s->count; k++) {
        if (!isfinite(s->y[k]))
            continue;
        const double x =
            at_x(f, (double)k + group * ((double)i - 0.5 * ((double)f->panel->series_count - 1)));
        const double y = at_y(f, s->y[k]);
        const double end = s->low ? at_y(f, s->y[k] < 0 ? s->low[k] : s->high[k]) : y;
        char text[32];
        fprintf(f->out,
            "<rect class=\"bar f%zu\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"2\"><title>",
            s->color % PLOT_COLORS, x - width / 2, fmin(y, zero), width, fabs(y - zero));
        plot_print_text(f->out, f->panel->names[k]);
        fprintf(f->out, ": %.5g</title></rect>\n", s->y[k]);
        if (s->low)
            print_whisker(f, x, s->low[k], s->high[k], s->color % PLOT_COLORS);
        snprintf(text, sizeof text, "%+.4f", s->y[k]);
        print_label(f, "v", "middle", x, s->y[k] < 0 ? fmax(end, y) + 13 : fmin(end, y) - 6, text);
    }
}

static void print_panel(FILE *out, const struct plot_panel *panel, double left, double top)
{
    struct frame f = {.out = out, .panel = panel, .left = left, .top = top};
    fit_y(&f);
    fit_x(&f);
    fputs(panel->kind == PLOT_BARS ? "<g class=\"bars\">\n" : "<g>\n", out);
    print_frame(&f);
    print_legend(&f);
    for (size_t i = 0; i < panel->series_count; i++)
        if (panel->kind == PLOT_BARS)
            print_bars(&f, i);
        else
            print_curve(&f, &panel->series[i]);
    fputs("</g>\n", out);
}

void plot_print(FILE *out, const struct plot *plot)
{
    const size_t columns = plot->columns ? plot->columns : 1;
    const size_t rows = (plot->panel_count + columns - 1) / columns;
    const size_t width = columns * WIDTH, height = HEADER + rows * HEIGHT;
    fprintf(out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %zu %zu\" width=\"%zu\" height=\"%zu\" "
        "role=\"img\" "
        "aria-labelledby=\"plot-title plot-about\">\n<title id=\"plot-title\">",
        width, height, width, height);
    plot_print_text(out, plot->title);
    fputs("</title>\n<desc id=\"plot-about\">", out);
    plot_print_text(out, plot->about);
    fprintf(out,
        "</desc>\n%s<rect class=\"bg\" width=\"%zu\" height=\"%zu\"/>\n<text class=\"t\" x=\"20\" y=\"32\">",
        style, width, height);
    plot_print_text(out, plot->title);
    fputs("</text>\n", out);
    for (size_t i = 0; i < plot->panel_count; i++)
        print_panel(
            out, &plot->panels[i], (double)(i % columns * WIDTH), HEADER + (double)(i / columns * HEIGHT));
    fputs("</svg>\n", out);
}

int plot_write(const char *path, const struct plot *plot, struct err *err)
{
    struct file_replacement file;
    const int result = file_replace_begin(&file, path, err);
    if (result < 0)
        return result;
    plot_print(file.stream, plot); /* a failure stays in the stream until commit */
    return file_replace_commit(&file, err);
}
